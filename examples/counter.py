"""The documentation's counter in three forms: broken by jit, explicit by hand, and functionalized.

JAX compiles what a function computes, once. `self.n += 1` is not something it computes: it is a
write, made while the function is traced, and a compiled call never makes it again.

    python examples/counter.py
"""

import jax
import jax.numpy as jnp

import fourbeat as fb


class Counter:
    """An ordinary class, written with no thought of JAX."""

    def __init__(self):
        self.n = 0

    def count(self) -> int:
        self.n += 1
        return self.n

    def reset(self) -> None:
        self.n = 0


def broken() -> list[int]:
    """The bug: the increment runs while tracing, so every compiled call returns the same number."""
    counter = Counter()
    count = jax.jit(counter.count)
    return [int(count()) for _ in range(3)]


def explicit() -> list[int]:
    """The general strategy, by hand: state goes in as an argument and comes out as a result."""

    @jax.jit
    def count(n: jax.Array) -> tuple[jax.Array, jax.Array]:
        n = n + 1
        return n, n

    values, n = [], jnp.int32(0)
    for _ in range(3):
        value, n = count(n)
        values.append(int(value))
    return values


def functionalized() -> list[int]:
    """The same strategy for the class as it is; the object itself changes only at `commit`."""
    counter = Counter()
    F = fb.functionalize(counter)
    state, count = F.init(), jax.jit(F.count)
    values = []
    for _ in range(3):
        value, state = count(state)
        values.append(int(value))
    assert counter.n == 0
    F.commit(state)
    assert counter.n == 3
    return values


def scanned(num_calls: int) -> int:
    """What only a pure function can do: all calls in one compiled loop."""
    F = fb.functionalize(Counter())
    state, _ = jax.lax.scan(lambda state, _: fb.as_step(F.count)(state), F.init(), length=num_calls)
    return int(state["n"])


def main() -> None:
    print("jit of the method:   ", *broken())
    print("explicit, by hand:   ", *explicit())
    print("functionalized:      ", *functionalized())
    print("a scan of 1000 calls:", scanned(1000))


if __name__ == "__main__":
    main()
