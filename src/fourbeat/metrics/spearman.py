"""Spearman's rank correlation."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.compared import read_compared
from fourbeat.metrics.kept_examples import KeptExamples
from fourbeat.metrics.metric import Metric, check_mergeable
from fourbeat.metrics.ranking import check_capacity
from fourbeat.metrics.ranks import exact_sum, mid_ranks
from fourbeat.metrics.totals import FRESH


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Spearman(Metric):
    """Spearman's correlation of predictions and targets: that of their ranks, equal numbers of one rank.

    A rank needs all numbers at once, so they are kept, `capacity` of them. A weight of 2 counts as the same
    number twice. Computes a float32 scalar in [-1, 1]; NaN where nothing was seen, or all predictions or all
    targets are equal.

    Args:
      capacity: how many numbers of a weight above 0 can be kept, over all that is seen until the next
        `reset`. With one more it computes NaN, and an evaluator warns.
      predictions: name of a real array of any shape.
      targets: name of a real array of the same shape.

    Raises:
      ValueError: the capacity is no int of at least 1.

    >>> import jax.numpy as jnp
    >>> predictions, targets = jnp.array([1.0, 10.0, 100.0]), jnp.array([1.0, 2.0, 3.0])
    >>> round(float(Spearman(capacity=100).update(predictions=predictions, targets=targets).compute()), 6)
    1.0
    """

    capacity: int = field(kw_only=True, metadata={"static": True})
    predictions: str = field(default="predictions", kw_only=True, metadata={"static": True})
    targets: str = field(default="targets", kw_only=True, metadata={"static": True})
    seen: Any = field(default=FRESH, kw_only=True)

    def __post_init__(self) -> None:
        if self.seen is FRESH:
            check_capacity("Spearman", self.capacity)
            object.__setattr__(self, "seen", KeptExamples.empty(2, self.capacity))

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        seen = read_compared(self, values, weight, predictions=self.predictions, targets=self.targets)
        columns = jnp.stack([seen.predictions.ravel(), seen.targets.ravel()])
        return replace(self, seen=self.seen.add(columns, seen.weight.ravel()))

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return replace(self, seen=self.seen.merge(other.seen))

    def compute(self) -> jax.Array:
        return _correlation(self.seen)

    def reset(self) -> Self:
        return replace(self, seen=KeptExamples.empty(2, self.capacity))


@partial(jax.jit, inline=True)
def _correlation(seen: KeptExamples) -> jax.Array:
    predictions, targets, _ = seen.rows
    is_nan = jnp.isnan(predictions) | jnp.isnan(targets)
    weight = jnp.where(is_nan, jnp.nan, seen.weight)
    one, other = mid_ranks(predictions, weight), mid_ranks(targets, weight)
    product = lambda a, b: exact_sum(a * weight * b)
    return jnp.clip(
        product(one, other) / jnp.sqrt(product(one, one)) / jnp.sqrt(product(other, other)), -1, 1
    )
