"""Averages of the parameters over the updates."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from fourbeat.types import Object, Params


def check_decay(decay: Object) -> None:
    """Raise `ValueError` unless `decay` is a number above 0 and below 1."""
    if not (isinstance(decay, float) and 0 < decay < 1):
        raise ValueError(
            f"ema is {decay!r}. It is the decay of an average of the parameters, above 0 and below 1, such "
            "as 0.999; or None."
        )


def initial_ema(params: Params) -> Params:
    """The average before any update: the parameters, in float32 at least."""
    return jax.tree.map(lambda param: param.astype(jnp.promote_types(param.dtype, jnp.float32)), params)


def updated_ema(decay: float, ema: Params, params: Params, num_updates: jax.Array) -> Params:
    """The average with one more update in it.

    The n-th update, counted from 0, moves the average by `rate(n)` of the way to the new parameters.
    The rate is that of a debiased exponential average, `(1 - decay) / (1 - decay**(n + 1))`, in which
    the initial parameters weigh nothing; during warm-up it is at least `9 / (10 + n)`, that of a decay
    of `(1 + n) / (10 + n)`.

    Args:
      decay: above 0 and below 1.
      ema: the average so far.
      params: after the update.
      num_updates: n, int32 scalar.

    >>> average = initial_ema(jnp.float32(7.0))
    >>> for n, param in enumerate([1.0, 2.0, 3.0]):
    ...     average = updated_ema(0.999, average, jnp.float32(param), jnp.int32(n))
    >>> round(float(average), 3)
    2.705
    """
    n = num_updates.astype(jnp.float32)
    debiased = (1 - decay) / -jnp.expm1((n + 1) * math.log(decay))
    rate = jnp.maximum(debiased, 9 / (10 + n))
    rate = jnp.where(num_updates == 0, 1, rate)  # whatever the rounding

    def move(average: jax.Array, param: jax.Array) -> jax.Array:
        if param.dtype != average.dtype:  # as it was rounded: XLA may leave out a cast there and back
            kept = jnp.finfo(param.dtype)
            param = lax.reduce_precision(param.astype(average.dtype), kept.nexp, kept.nmant)
        return jnp.where(num_updates == 0, param, average + rate.astype(average.dtype) * (param - average))

    return jax.tree.map(move, ema, params)
