"""Running totals that stay right however many examples are added.

A float32 total stops counting at 2**24: one more is lost to rounding. A total here is therefore a
pair of float32 numbers, `hi + lo`, of which `lo` holds what rounding took from `hi`. Pairs need no
64-bit mode and run on every device. The pairs of all numbers that a metric keeps lie in one array
of shape (2, ...), `hi` first, because each leaf of a state costs time at every step.
"""

from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp


class _Fresh:
    """The type of FRESH."""

    def __repr__(self) -> str:
        return "FRESH"


FRESH: Final[Any] = _Fresh()
"""The default of a metric's totals: zeros of the shape that its options ask for.

Not None, which is itself a pytree: whoever maps over a state may put it in the place of a leaf.
"""


def zeros(*shape: int) -> jax.Array:
    """A total of nothing, for numbers of this shape, in a buffer of its own.

    Returns:
      float32 array of shape (2, *shape).

    >>> zeros(3).shape
    (2, 3)
    """
    return _zeros((2, *shape))


# Operations one by one take ten times as long as a small program: an evaluation begins and ends with these.
@partial(jax.jit, static_argnums=0, inline=True)
def _zeros(shape: tuple[int, ...]) -> jax.Array:
    return jnp.zeros(shape, jnp.float32)


def add(total: jax.Array, amount: jax.Array) -> jax.Array:
    """The total with `amount` added, off by about 2**-48 of its size.

    A total that meets an infinity or a NaN holds that from then on.

    Args:
      total: float32 array of shape (2, ...), made by `zeros`.
      amount: float32 array of shape (...).

    Returns:
      A new total, of the same shape and type.

    >>> total = add(zeros(), jnp.float32(2**24))
    >>> for _ in range(3):
    ...     total = add(total, jnp.float32(1))
    >>> total.tolist(), float(jnp.float32(2**24) + 1 + 1 + 1) - 2**24
    ([16777220.0, -1.0], 0.0)
    """
    hi, lost = _two_sum(total[0], amount.astype(jnp.float32))
    return _normalised(hi, total[1] + lost)


def add_at(total: jax.Array, places: jax.Array, amounts: jax.Array) -> jax.Array:
    """The total with each amount added to the number at its place.

    Amounts of one place are first summed in float32, on a GPU in an order that varies; whole numbers below
    2**24 are exact in every order. Where the numbers are many, those that are not added to are not touched.

    Args:
      total: float32 array of shape (2, ...), made by `zeros`.
      places: int32 array (n,), which of the numbers, in row-major order; a place may stand in it repeatedly.
      amounts: float32 array (n,).

    Returns:
      A new total, of the same shape and type.

    >>> total = add_at(zeros(2, 2), jnp.array([3, 0, 3]), jnp.array([1.0, 2.0, 4.0]))
    >>> read(total).tolist()
    [[2.0, 0.0], [0.0, 5.0]]
    """
    pairs = total.reshape(2, -1)
    size = pairs.shape[1]
    if size <= places.size:
        return add(pairs, jnp.zeros(size, jnp.float32).at[places].add(amounts)).reshape(total.shape)
    places, amounts = jax.lax.sort((places, amounts), num_keys=1)
    group = jnp.cumsum(jnp.diff(places, prepend=-1) != 0) - 1
    sums = jnp.zeros(places.size, jnp.float32).at[group].add(amounts, indices_are_sorted=True)
    # The place of each sum; sums beyond the last group have a place outside, where nothing is written.
    targets = jnp.full(places.size, size, places.dtype).at[group].set(places, indices_are_sorted=True)
    added = add(pairs.at[:, targets].get(mode="clip"), sums)
    return pairs.at[:, targets].set(added, mode="drop").reshape(total.shape)


def merge(total: jax.Array, other: jax.Array) -> jax.Array:
    """The sum of two totals of the same shape.

    >>> merge(add(zeros(), jnp.float32(2)), add(zeros(), jnp.float32(3))).tolist()
    [5.0, 0.0]
    """
    hi, lost = _two_sum(total[0], other[0])
    return _normalised(hi, total[1] + other[1] + lost)


@partial(jax.jit, inline=True)
def read(total: jax.Array) -> jax.Array:
    """The total rounded to float32, of shape (...).

    >>> float(read(add(zeros(), jnp.float32(0.5))))
    0.5
    """
    return total[0] + total[1]


@partial(jax.jit, inline=True)
def quotient(total: jax.Array) -> jax.Array:
    """The first of two totals divided by the second: float32 scalar.

    >>> float(quotient(add(zeros(2), jnp.float32([1, 4]))))
    0.25
    """
    one, other = read(total)
    return one / other


def _two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`a + b` rounded, and exactly what the rounding lost (Knuth, TAOCP 2, 4.2.2, theorem B).

    XLA keeps these operations as they are written: it reorders no floating-point sums by default.
    """
    rounded = a + b
    b_seen = rounded - a
    a_seen = rounded - b_seen
    lost = (a - a_seen) + (b - b_seen)
    # Infinity less infinity is NaN; nothing that rounding lost can be known of a non-finite sum.
    return rounded, jnp.where(jnp.isfinite(rounded), lost, 0)


def _normalised(hi: jax.Array, lo: jax.Array) -> jax.Array:
    """The pair with `lo` below half a unit in the last place of `hi`, so that `lo` never grows."""
    return jnp.stack(_two_sum(hi, lo))
