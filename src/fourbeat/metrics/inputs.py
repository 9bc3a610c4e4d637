"""What an update reads: values by name, and the weight of each of them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.metric import Metric


def named_value(metric: Metric, values: Mapping[str, Any], name: str, *, rename: str) -> jax.Array:
    """The value of this name, as a JAX array.

    Args:
      metric: the metric that reads it, for the error.
      values: what the update was given.
      name: the name to read.
      rename: how to read a value of another name, for the error, such as `Mean("...")`.

    Raises:
      ValueError: no such value; names those present.
    """
    if name not in values:
        present = ", ".join(repr(other) for other in values) or "no values at all"
        raise ValueError(
            f"{metric!r} cannot update: it reads {name!r}, and was given {present}. "
            f"Return {name!r} in the aux of the loss function, or read another name: {rename}."
        )
    return jnp.asarray(values[name])


def spread_weight(metric: Metric, shape: tuple[int, ...], weight: ArrayLike | None, *, of: str) -> jax.Array:
    """The weight of every value: a weight of the leading axes is spread over the trailing ones.

    Args:
      metric: the metric that weighs, for the error.
      shape: shape of the values.
      weight: None for ones, or an array of shape `shape[:n]` for any n.
      of: the name of what is weighed, for the error.

    Returns:
      float32 array of this shape.

    Raises:
      ValueError: the weight is of another shape.
    """
    if weight is None:
        return jnp.ones(shape, jnp.float32)
    given = jnp.asarray(weight).astype(jnp.float32)
    if given.shape != shape[: given.ndim]:
        fitting = " or ".join(str(shape[:ndim]) for ndim in range(1, len(shape) + 1)) or "()"
        raise ValueError(
            f"{metric!r} cannot weigh {of} of shape {shape} by a weight of shape {given.shape}: "
            f"a weight has the shape of the values or of their leading axes, here {fitting}. "
            f"Give one value an example (drop a .mean()), or reshape the weight."
        )
    trailing = (1,) * (len(shape) - given.ndim)
    return jnp.broadcast_to(given.reshape(given.shape + trailing), shape)


def weighted_sums(value: jax.Array, weight: jax.Array) -> jax.Array:
    """The two sums that a weighted mean is made of: of `value * weight`, and of `weight`.

    Args:
      value: array of numbers, of any real dtype. Where the weight is 0 it may hold NaN or infinity.
      weight: float32 array of the same shape.

    Returns:
      float32 array of shape (2,).

    >>> value, weight = jnp.array([1.0, 2.0, jnp.nan]), jnp.array([1.0, 0.5, 0.0])
    >>> weighted_sums(value, weight).tolist()
    [2.0, 1.5]
    """
    value = jnp.where(weight != 0, value.astype(jnp.float32), 0)
    return jnp.stack([jnp.sum(value * weight), jnp.sum(weight)])
