"""`python -m benchmarks.limits`: what XLA itself costs on CPU, shown in plain JAX without fourbeat.

Three limits stand behind figures of `docs/benchmarks.md`: where XLA takes its convolutions from, what it
costs to leave an update that was made already, and what a batch that was just gathered costs a network.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

EIGEN = "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"  # no convolutions of YNNPACK
Step = Callable[[Any, Any], tuple[Any, Any]]


def convolutions() -> tuple[dict[str, Step], Any, Any]:
    """The second convolution of mnist-cnn, forward and backward, from YNNPACK and from Eigen."""

    def loss(kernel: jax.Array, x: jax.Array) -> jax.Array:
        return (_convolved(x, kernel) ** 2).mean()

    def step(kernel: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        of_kernel, of_x = jax.grad(loss, (0, 1))(kernel, x)
        return kernel - of_kernel, of_x

    options = {"xla_cpu_experimental_ynn_fusion_type": EIGEN}
    steps = {
        "XLA's choice": jax.jit(step, donate_argnums=0),
        "Eigen's": jax.jit(step, donate_argnums=0, compiler_options=options),
    }
    return steps, 0.1 * _normal(3, 3, 32, 64), _normal(32, 14, 14, 32)


def skipping() -> tuple[dict[str, Step], Any, Any]:
    """AdamW of the 800,000 weights of mnist-cnn's first linear layer, applied only where it is finite."""
    tx = optax.adamw(1e-3)

    def made(params: jax.Array, opt_state: Any, grads: jax.Array) -> tuple[jax.Array, Any]:
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def always(state: Any, x: Any) -> tuple[Any, jax.Array]:
        grads = _grads(x)
        return made(*state, grads), _squares(grads)

    def judged(state: Any, x: Any) -> tuple[Any, Any, jax.Array]:
        grads = _grads(x)
        new = made(*state, grads)
        good = jnp.isfinite(_squares(grads)) & jnp.isfinite(_squares(new[0] - state[0]))
        return new, grads, good

    def where(state: Any, x: Any) -> tuple[Any, jax.Array]:
        new, _, good = judged(state, x)
        return jax.tree.map(lambda new, old: jnp.where(good, new, old), new, state), good

    def cond(state: Any, x: Any) -> tuple[Any, jax.Array]:
        new, _, good = judged(state, x)
        return lax.cond(good, lambda new, old: new, lambda new, old: old, new, state), good

    def again(state: Any, x: Any) -> tuple[Any, jax.Array]:
        _, grads, good = judged(state, x)
        return lax.cond(good, lambda state: made(*state, grads), lambda state: state, state), good

    steps = {
        "applied always": always,
        "chosen by a where": where,
        "chosen by a conditional": cond,
        "made again in the conditional": again,
    }
    params = 0.1 * _normal(3136, 256)
    x = _normal(32, 3136), _normal(32, 256)
    return (
        {name: jax.jit(step, donate_argnums=0) for name, step in steps.items()},
        (params, tx.init(params)),
        x,
    )


def gathering() -> tuple[dict[str, Step], Any, Any]:
    """The network of mnist-cnn on 256 images: floats at rest, and bytes gathered and scaled before it."""
    params = 0.1 * _normal(3, 3, 1, 32), 0.1 * _normal(3, 3, 32, 64), 0.1 * _normal(3136, 256)

    def pooled(x: jax.Array, kernel: jax.Array) -> jax.Array:
        x = jax.nn.relu(_convolved(x, kernel))
        return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4

    def scored(total: jax.Array, images: jax.Array) -> tuple[jax.Array, None]:
        x = pooled(pooled(images, params[0]), params[1])
        return total + jax.nn.relu(x.reshape(len(x), -1) @ params[2]).mean(), None

    def at_rest(total: jax.Array, x: Any) -> tuple[jax.Array, None]:
        return scored(total, x[0])

    def gathered(total: jax.Array, x: Any) -> tuple[jax.Array, None]:
        _, columns, examples = x
        return scored(total, columns[examples].astype(jnp.float32) / 255)

    columns = jnp.asarray(np.random.RandomState(0).randint(0, 256, (10_000, 28, 28, 1)), jnp.uint8)
    examples = jnp.arange(512, 768)
    x = columns[examples].astype(jnp.float32) / 255, columns, examples
    steps = {"at rest": jax.jit(at_rest), "gathered and scaled": jax.jit(gathered)}
    return steps, jnp.zeros(()), x


LIMITS = {"convolutions": convolutions, "skipping": skipping, "gathering": gathering}


def measured(
    steps: dict[str, Step], state: Any, x: Any, *, rounds: int, calls: int
) -> dict[str, list[float]]:
    """Seconds of a call, of each round; the steps take turns."""
    states = {name: jax.tree.map(jnp.copy, state) for name in steps}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            for _ in range(calls):
                states[name], _ = step(states[name], x)
            jax.block_until_ready(states[name])
            if number:  # the first round compiles
                seconds[name].append((time.perf_counter() - began) / calls)
    return seconds


def _convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    form = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=form)


def _grads(x: Any) -> jax.Array:
    return x[0].T @ x[1]


def _squares(array: jax.Array) -> jax.Array:
    return (lax.optimization_barrier(array) ** 2).sum()


def _normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.RandomState(0).standard_normal(shape), jnp.float32)


def main(args: list[str] | None = None) -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="counted rounds")
    parser.add_argument("--calls", type=int, default=50, help="calls of a round")
    told = parser.parse_args(args)
    for limit in LIMITS.values():
        print(limit.__doc__)
        seconds = measured(*limit(), rounds=told.rounds, calls=told.calls)
        first = next(iter(seconds.values()))
        for name, rounds in seconds.items():
            ratio = np.median(np.divide(rounds, first))
            print(f"  {name:30s} {1e3 * np.median(rounds):6.3f} ms   {ratio:5.2f}")


if __name__ == "__main__":
    main()
