"""Metrics of how well scores rank positives above negatives: what they keep, and one curve a class."""

import abc
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.class_average import Absent, Average, averaged, check_average
from fourbeat.metrics.class_counts import check_num_classes, check_seen_classes
from fourbeat.metrics.classified import Classified, first_highest, read_classified
from fourbeat.metrics.kept_examples import KeptExamples
from fourbeat.metrics.metric import Metric, check_mergeable
from fourbeat.metrics.ranks import Ranked, exact_sum, ranked_bins, ranked_examples
from fourbeat.metrics.score_bins import ScoreBins
from fourbeat.metrics.totals import FRESH
from fourbeat.types import Object


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Metric):
    """A metric of one curve for two classes, or of one curve for each of more classes against the others."""

    num_classes: int = field(default=2, kw_only=True, metadata={"static": True})
    average: Average = field(default="macro", kw_only=True, metadata={"static": True})
    absent: Absent = field(default="skip", kw_only=True, metadata={"static": True})
    capacity: int | None = field(default=None, kw_only=True, metadata={"static": True})
    bins: int = field(default=8192, kw_only=True, metadata={"static": True})
    bounds: bool = field(default=False, kw_only=True, metadata={"static": True})
    logits: str = field(default="logits", kw_only=True, metadata={"static": True})
    labels: str = field(default="labels", kw_only=True, metadata={"static": True})
    seen: Any = field(default=FRESH, kw_only=True)

    @abc.abstractmethod
    def of_curve(self, ranked: Ranked) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The least that the score may be, the score, and the most, where scores of one rank may differ."""

    @abc.abstractmethod
    def occurs(self, positive: jax.Array, negative: jax.Array) -> jax.Array:
        """Whether there is a score, by the weight of the positives and of the negatives."""

    def __post_init__(self) -> None:
        if self.seen is FRESH:
            name = type(self).__name__
            check_num_classes(name, self.num_classes)
            check_average(name, self.average, self.absent, averages=("macro", "weighted", None))
            check_capacity(name, self.capacity, may_be_none=True)
            if not isinstance(self.bins, int) or self.bins < 4 or self.bins % 4:
                raise ValueError(
                    f"{name} needs bins, a multiple of 4, and got {self.bins!r}. Write {name}(bins=8192), or "
                    f"{name}(capacity=10_000) to keep the examples themselves."
                )
            object.__setattr__(self, "seen", self._nothing())

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        seen = read_classified(self, values, weight, logits=self.logits, labels=self.labels)
        check_seen_classes(self, seen, self.num_classes)
        scores, labels, weights = scores_by_class(seen), seen.labels.ravel(), seen.weight.ravel()
        if self.capacity is None:
            is_positive = labels == self._classes()[:, None]
            return replace(self, seen=self.seen.add(scores, is_positive, weights))
        columns = jnp.concatenate([scores, labels[None].astype(jnp.float32)])
        return replace(self, seen=self.seen.add(columns, weights))

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return replace(self, seen=self.seen.merge(other.seen))

    def compute(self) -> jax.Array:
        return _computed(self)

    def reset(self) -> Self:
        return replace(self, seen=self._nothing())

    def _nothing(self) -> Any:
        num_curves = len(self._classes())
        if self.capacity is None:
            return ScoreBins.empty(num_curves, self.bins)
        return KeptExamples.empty(num_curves + 1, self.capacity)

    def _classes(self) -> jax.Array:
        """The class of each curve."""
        return jnp.arange(1, 2) if self.num_classes == 2 else jnp.arange(self.num_classes)

    def curves(self) -> Ranked:
        """The curve of each class, along a first axis."""
        if self.capacity is None:
            return jax.vmap(ranked_bins, in_axes=2)(self.seen.sums)
        *scores, labels, _ = self.seen.rows
        is_positive = labels == self._classes()[:, None]
        weight = self.seen.weight
        weighted = jnp.where(jnp.isnan(jnp.stack(scores)) & (weight != 0), jnp.nan, weight)
        return jax.vmap(ranked_examples)(jnp.stack(scores), is_positive, weighted)


@partial(jax.jit, inline=True)
def _computed(metric: Ranking) -> jax.Array:
    curves = metric.curves()
    positive, negative = jax.vmap(exact_sum)(curves.positive), jax.vmap(exact_sum)(curves.negative)
    occurs = metric.occurs(positive, negative) | jnp.isnan(positive) | jnp.isnan(negative)
    low, score, high = jax.vmap(metric.of_curve)(curves)
    average = "macro" if metric.num_classes == 2 else metric.average  # of two classes there is one curve
    one = lambda by_class: averaged(by_class, positive, occurs, average=average, absent=metric.absent)
    return jnp.stack([one(low), one(high)]) if metric.bounds else one(score)


def scores_by_class(seen: Classified) -> jax.Array:
    """By what the examples are ranked: how much more likely a class is than the others.

    Returns:
      float32 (num_curves, n): the logit of class 1 against class 0; or, of each of more classes, the logit of
      its probability.
    """
    logits = seen.logits.astype(jnp.float32)
    if seen.is_binary:
        return logits.reshape(1, -1)
    logits = logits.reshape(-1, seen.num_classes)
    if seen.num_classes == 2:
        return (logits[:, 1] - logits[:, 0])[None]
    # log(p / (1 - p)) loses all digits of 1 - p where p is near 1: of the highest, the others are summed.
    of_all = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    is_highest = first_highest(logits)[:, None] == jnp.arange(seen.num_classes)
    of_lower = jax.nn.logsumexp(jnp.where(is_highest, -jnp.inf, logits), axis=-1, keepdims=True)
    others = jnp.where(is_highest, of_lower, of_all + jnp.log1p(-jnp.exp(logits - of_all)))
    return (logits - others).T


def check_capacity(metric_name: str, capacity: Object, *, may_be_none: bool = False) -> None:
    """Raise unless it is a number of examples that a metric can keep.

    Raises:
      ValueError: names the metric.
    """
    if capacity is None and may_be_none:
        return
    if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
        raise ValueError(
            f"{metric_name} needs capacity, how many examples it can keep, an int of at least 1, and got "
            f"{capacity!r}. Write {metric_name}(capacity=10_000)."
        )
