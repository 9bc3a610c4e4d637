"""The confusion matrix."""

from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics import totals
from fourbeat.metrics.class_counts import check_class_options, one_hot_pair
from fourbeat.metrics.classified import read_classified
from fourbeat.metrics.metric import Metric, check_mergeable


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class ConfusionMatrix(Metric):
    """Weight of the items of each class (row) that were predicted to be of each class (column).

    Items whose label is no class are left out. Computes a float32 array (C, C); zeros where
    nothing was seen.

    Args:
      num_classes: how many classes there are, C; at least 2.
      logits: name of a real array (..., C); or (...) for two classes, class 1 above 0.
      labels: name of an integer array (...).

    Raises:
      ValueError: `num_classes` is not an integer of at least 2.

    >>> logits, labels = jnp.array([[2.0, 1.0], [0.0, 3.0], [5.0, 1.0]]), jnp.array([0, 1, 1])
    >>> ConfusionMatrix(num_classes=2).update(logits=logits, labels=labels).compute().tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """

    num_classes: int = field(kw_only=True, metadata={"static": True})
    logits: str = field(default="logits", kw_only=True, metadata={"static": True})
    labels: str = field(default="labels", kw_only=True, metadata={"static": True})
    counts: jax.Array = field(default=totals.FRESH, kw_only=True)

    def __post_init__(self) -> None:
        if self.counts is totals.FRESH:
            check_class_options("ConfusionMatrix", self.num_classes)
            object.__setattr__(self, "counts", totals.zeros(self.num_classes, self.num_classes))

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        items = read_classified(self, values, weight, logits=self.logits, labels=self.labels)
        predicted, actual = one_hot_pair(self, items, self.num_classes)
        weighed = jnp.where(actual, items.weight[..., None], 0)
        axes = tuple(range(items.labels.ndim))
        # Accelerators round the factors of a product to fewer bits unless asked not to.
        counts = jnp.tensordot(
            weighed,
            predicted.astype(jnp.float32),
            axes=(axes, axes),
            precision=jax.lax.Precision.HIGHEST,
        )
        return replace(self, counts=totals.add(self.counts, counts))

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return replace(self, counts=totals.merge(self.counts, other.counts))

    def compute(self) -> jax.Array:
        return totals.read(self.counts)

    def reset(self) -> Self:
        return replace(self, counts=totals.zeros(self.num_classes, self.num_classes))
