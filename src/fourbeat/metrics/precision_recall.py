"""Precision, recall and their harmonic mean F1, by class or averaged over classes."""

from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import jax
from jax.typing import ArrayLike

from fourbeat.metrics import totals
from fourbeat.metrics.class_counts import (
    Average,
    averaged_ratio,
    check_class_options,
    class_counts,
)
from fourbeat.metrics.classified import read_classified
from fourbeat.metrics.metric import Metric, check_mergeable


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Precision(Metric):
    """Of what was predicted to be a class, the weighted fraction that is of it.

    Equal to scikit-learn's `precision_score(labels=range(num_classes), zero_division=0)`: a
    class that is never predicted counts as 0, and "macro" is the mean over all classes, seen or
    not. Items whose label is no class are left out. Computes 0 where nothing was seen.

    Args:
      num_classes: how many classes there are, C; at least 2.
      average: "macro" for the mean over classes, "micro" for the ratio of the sums over classes,
        None for a float32 array (C,). For class 1 of two classes take None, and then `[1]`.
      logits: name of a real array (..., C); or (...) for two classes, class 1 above 0.
      labels: name of an integer array (...).

    Raises:
      ValueError: an option is none of these.

    >>> import jax.numpy as jnp
    >>> logits, labels = jnp.array([2.0, 3.0, -1.0, 1.0]), jnp.array([1, 1, 1, 0])
    >>> metric = Precision(num_classes=2, average=None)
    >>> metric.update(logits=logits, labels=labels, weight=jnp.array([1, 1, 2, 2])).compute()
    Array([0. , 0.5], dtype=float32)
    """

    num_classes: int = field(kw_only=True, metadata={"static": True})
    average: Average = field(default="macro", kw_only=True, metadata={"static": True})
    logits: str = field(default="logits", kw_only=True, metadata={"static": True})
    labels: str = field(default="labels", kw_only=True, metadata={"static": True})
    counts: jax.Array = field(default=totals.FRESH, kw_only=True)

    def __post_init__(self) -> None:
        if self.counts is totals.FRESH:
            check_class_options("Precision", self.num_classes, self.average)
            object.__setattr__(self, "counts", totals.zeros(3, self.num_classes))

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        items = read_classified(self, values, weight, logits=self.logits, labels=self.labels)
        return replace(self, counts=totals.add(self.counts, class_counts(self, items, self.num_classes)))

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return replace(self, counts=totals.merge(self.counts, other.counts))

    def compute(self) -> jax.Array:
        true, predicted, _ = totals.read(self.counts)
        return averaged_ratio(true, predicted, self.average)

    def reset(self) -> Self:
        return replace(self, counts=totals.zeros(3, self.num_classes))


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Recall(Metric):
    """Of what is of a class, the weighted fraction that was predicted to be.

    Equal to scikit-learn's `recall_score(labels=range(num_classes), zero_division=0)`: a class that
    has no item counts as 0, and "macro" is the mean over all classes.
    Items whose label is no class are left out. Computes 0 where nothing was seen.

    Args:
      num_classes: how many classes there are, C; at least 2.
      average: "macro" for the mean over classes, "micro" for the ratio of the sums over classes,
        None for a float32 array (C,). For class 1 of two classes take None, and then `[1]`.
      logits: name of a real array (..., C); or (...) for two classes, class 1 above 0.
      labels: name of an integer array (...).

    Raises:
      ValueError: an option is none of these.

    >>> import jax.numpy as jnp
    >>> logits, labels = jnp.array([2.0, 3.0, -1.0, 1.0]), jnp.array([1, 1, 1, 0])
    >>> metric = Recall(num_classes=2, average=None)
    >>> metric.update(logits=logits, labels=labels, weight=jnp.array([1, 1, 2, 2])).compute()
    Array([0. , 0.5], dtype=float32)
    """

    num_classes: int = field(kw_only=True, metadata={"static": True})
    average: Average = field(default="macro", kw_only=True, metadata={"static": True})
    logits: str = field(default="logits", kw_only=True, metadata={"static": True})
    labels: str = field(default="labels", kw_only=True, metadata={"static": True})
    counts: jax.Array = field(default=totals.FRESH, kw_only=True)

    def __post_init__(self) -> None:
        if self.counts is totals.FRESH:
            check_class_options("Recall", self.num_classes, self.average)
            object.__setattr__(self, "counts", totals.zeros(3, self.num_classes))

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        items = read_classified(self, values, weight, logits=self.logits, labels=self.labels)
        return replace(self, counts=totals.add(self.counts, class_counts(self, items, self.num_classes)))

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return replace(self, counts=totals.merge(self.counts, other.counts))

    def compute(self) -> jax.Array:
        true, _, actual = totals.read(self.counts)
        return averaged_ratio(true, actual, self.average)

    def reset(self) -> Self:
        return replace(self, counts=totals.zeros(3, self.num_classes))


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class F1(Metric):
    """Harmonic mean of precision and recall, `2 * true / (predicted + actual)`.

    Equal to scikit-learn's `f1_score(labels=range(num_classes), zero_division=0)`: a class that
    is neither seen nor predicted counts as 0, and "macro" is the mean over all classes.
    Items whose label is no class are left out. Computes 0 where nothing was seen.

    Args:
      num_classes: how many classes there are, C; at least 2.
      average: "macro" for the mean over classes, "micro" for the ratio of the sums over classes,
        None for a float32 array (C,). For class 1 of two classes take None, and then `[1]`.
      logits: name of a real array (..., C); or (...) for two classes, class 1 above 0.
      labels: name of an integer array (...).

    Raises:
      ValueError: an option is none of these.

    >>> import jax.numpy as jnp
    >>> logits, labels = jnp.array([2.0, 3.0, -1.0, 1.0]), jnp.array([1, 1, 1, 0])
    >>> metric = F1(num_classes=2, average=None)
    >>> metric.update(logits=logits, labels=labels, weight=jnp.array([1, 1, 2, 2])).compute()
    Array([0. , 0.5], dtype=float32)
    """

    num_classes: int = field(kw_only=True, metadata={"static": True})
    average: Average = field(default="macro", kw_only=True, metadata={"static": True})
    logits: str = field(default="logits", kw_only=True, metadata={"static": True})
    labels: str = field(default="labels", kw_only=True, metadata={"static": True})
    counts: jax.Array = field(default=totals.FRESH, kw_only=True)

    def __post_init__(self) -> None:
        if self.counts is totals.FRESH:
            check_class_options("F1", self.num_classes, self.average)
            object.__setattr__(self, "counts", totals.zeros(3, self.num_classes))

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        items = read_classified(self, values, weight, logits=self.logits, labels=self.labels)
        return replace(self, counts=totals.add(self.counts, class_counts(self, items, self.num_classes)))

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return replace(self, counts=totals.merge(self.counts, other.counts))

    def compute(self) -> jax.Array:
        true, predicted, actual = totals.read(self.counts)
        return averaged_ratio(2 * true, predicted + actual, self.average)

    def reset(self) -> Self:
        return replace(self, counts=totals.zeros(3, self.num_classes))
