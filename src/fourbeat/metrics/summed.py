"""Metrics that are a formula of running sums: what they share."""

import abc
from dataclasses import dataclass, field, replace
from typing import Any, Self

import jax

from fourbeat.metrics import totals
from fourbeat.metrics.inputs import weighted_sums
from fourbeat.metrics.metric import Metric, check_mergeable


@dataclass(frozen=True, eq=False, repr=False)
class Summed(Metric):
    """A metric that keeps one array of running sums.

    A metric of this kind writes its options as fields, `sums_shape`, and two formulas: `update`, which
    returns `self.add(...)`, and `compute`, which reads `self.total`.
    """

    sums: jax.Array = field(default=totals.FRESH, kw_only=True)

    @abc.abstractmethod
    def sums_shape(self) -> tuple[int, ...]:
        """The shape of the sums.

        Raises:
          ValueError: an option is none that the metric can have.
        """

    def __post_init__(self) -> None:
        if self.sums is totals.FRESH:
            object.__setattr__(self, "sums", totals.zeros(*self.sums_shape()))

    def add(self, amount: jax.Array) -> Self:
        """The metric with `amount`, an array of the sums' shape, added to its sums."""
        return replace(self, sums=totals.add(self.sums, amount))

    def add_at(self, places: jax.Array, amounts: jax.Array) -> Self:
        """The metric with each amount added to the sum at its place.

        Args:
          places: int32 array of any shape, which of the sums, in row-major order.
          amounts: float32 array of the same shape.
        """
        return replace(self, sums=totals.add_at(self.sums, places.ravel(), amounts.ravel()))

    @property
    def total(self) -> jax.Array:
        """The sums so far, float32."""
        return totals.read(self.sums)

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return replace(self, sums=totals.merge(self.sums, other.sums))

    def reset(self) -> Self:
        return replace(self, sums=totals.zeros(*self.sums_shape()))


@dataclass(frozen=True, eq=False, repr=False)
class WeightedMean(Summed):
    """A metric that is `sum(value * weight) / sum(weight)` of what its `update` measures; NaN where nothing
    was seen.
    """

    def sums_shape(self) -> tuple[int, ...]:
        return (2,)

    def add_weighted(self, value: jax.Array, weight: jax.Array) -> Self:
        """The metric that has also seen these values.

        Args:
          value: array of numbers. Where the weight is 0 it may hold NaN or infinity.
          weight: float32 array of the same shape.
        """
        return self.add(weighted_sums(value, weight))

    def compute(self) -> Any:
        return totals.quotient(self.sums)
