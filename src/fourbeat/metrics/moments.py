"""Metrics of means, variances and covariances: they keep sums about a pivot, in one pass.

A sum of squares loses what the mean is large against: of numbers near 10,000 that differ by 1, a float32
square keeps nothing of the difference. What is summed here is therefore the distance from a pivot, the mean
of the first batch.
"""

import abc
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp

from fourbeat.metrics import totals
from fourbeat.metrics.metric import Metric, check_mergeable


class Moments(NamedTuple):
    """Weighted moments of k variables.

    Attributes:
      weight: float32 scalar, summed.
      mean: float32 (k,).
      covariance: float32 (k, k), over the summed weight.
    """

    weight: jax.Array
    mean: jax.Array
    covariance: jax.Array


@dataclass(frozen=True, eq=False, repr=False)
class OfMoments(Metric):
    """A metric that is a formula of the moments of some variables.

    It writes `num_variables`, an `update` that returns `self.add_moments(...)`, and a `compute` that reads
    `self.moments()`.
    """

    sums: jax.Array = field(default=totals.FRESH, kw_only=True)
    pivot: jax.Array = field(default=totals.FRESH, kw_only=True)

    @abc.abstractmethod
    def num_variables(self) -> int:
        """How many variables there are, k."""

    def __post_init__(self) -> None:
        if self.sums is totals.FRESH:
            count = self.num_variables()
            object.__setattr__(self, "sums", totals.zeros(1 + count + count * count))
            object.__setattr__(self, "pivot", jnp.zeros(count, jnp.float32))

    def add_moments(self, variables: list[jax.Array], weight: jax.Array) -> Self:
        """The metric that has also seen these numbers.

        Args:
          variables: k float32 arrays of one shape. Where the weight is 0 they may hold NaN or infinity.
          weight: float32 array of the same shape.
        """
        weight = weight.ravel()
        counts = weight != 0
        numbers = jnp.where(counts, jnp.stack([each.ravel() for each in variables]), 0)
        pivot = jnp.where(self._is_empty(), _mean_within(numbers, weight, counts), self.pivot)
        about = jnp.where(counts, numbers - pivot[:, None], 0)
        first = about * weight
        second = jnp.sum(first[:, None] * about, axis=-1)  # not by a matmul, which may round its inputs
        added = _flat(jnp.sum(weight), jnp.sum(first, axis=-1), second)
        return replace(self, sums=totals.add(self.sums, added), pivot=pivot)

    def moments(self) -> Moments:
        """The moments so far; NaN where nothing was seen."""
        return _moments(self.pivot, *self._sums())

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        weight, first, _ = other._sums()
        pivot = jnp.where(self._is_empty(), other.pivot, self.pivot)
        shift = jnp.where(weight == 0, 0, other.pivot - pivot)
        # What a move of the other's pivot adds to its sums; nothing where the pivots are the same.
        moved = _flat(
            jnp.zeros(()),
            shift * weight,
            jnp.outer(shift, first) + jnp.outer(first, shift) + jnp.outer(shift, shift) * weight,
        )
        sums = totals.merge(self.sums, totals.add(other.sums, moved))
        return replace(self, sums=sums, pivot=pivot)

    def reset(self) -> Self:
        return replace(self, sums=jnp.zeros_like(self.sums), pivot=jnp.zeros_like(self.pivot))

    def _is_empty(self) -> jax.Array:
        return self.sums[0, 0] == 0

    def _sums(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        count, flat = self.num_variables(), totals.read(self.sums)
        return flat[0], flat[1 : 1 + count], flat[1 + count :].reshape(count, count)


@partial(jax.jit, inline=True)
def _moments(pivot: jax.Array, weight: jax.Array, first: jax.Array, second: jax.Array) -> Moments:
    offset = first / weight
    return Moments(weight, pivot + offset, second / weight - jnp.outer(offset, offset))


def _mean_within(numbers: jax.Array, weight: jax.Array, counts: jax.Array) -> jax.Array:
    """The weighted mean of each row, between its least and its largest number, so that equal ones give it."""
    mean = jnp.sum(numbers * weight, axis=1) / jnp.where(jnp.any(counts), jnp.sum(weight), 1)
    least = jnp.min(jnp.where(counts, numbers, jnp.inf), axis=1, initial=jnp.inf)
    most = jnp.max(jnp.where(counts, numbers, -jnp.inf), axis=1, initial=-jnp.inf)
    return jnp.where(jnp.any(counts), jnp.clip(mean, least, most), 0)


def _flat(weight: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.concatenate([weight[None], first, second.ravel()])
