"""The confusion matrix."""

from dataclasses import dataclass, field
from typing import Any, Self, final

import jax
from jax.typing import ArrayLike

from fourbeat.metrics.class_counts import check_num_classes, check_seen_classes
from fourbeat.metrics.classified import check_threshold, read_classified
from fourbeat.metrics.summed import Summed


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class ConfusionMatrix(Summed):
    """Weight of the examples of each class (row) that were predicted to be of each class (column).

    Examples whose label is no class are left out. Computes a float32 array (C, C); zeros where
    nothing was seen. An update touches only the counts of its examples, so that many classes cost no
    time. Fractional weights of one batch are summed in float32, on a GPU in an order that varies.

    Args:
      num_classes: how many classes there are, C; at least 2.
      logits: name of a real array (..., C); or (...) for two classes, class 1 above 0.
      labels: name of an integer array (...).
      threshold: above which class 1 of two is predicted, for logits (...); None for 0.

    Raises:
      ValueError: `num_classes` is not an integer of at least 2, or the threshold is no number.

    >>> import jax.numpy as jnp
    >>> logits, labels = jnp.array([[2.0, 1.0], [0.0, 3.0], [5.0, 1.0]]), jnp.array([0, 1, 1])
    >>> ConfusionMatrix(num_classes=2).update(logits=logits, labels=labels).compute().tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """

    num_classes: int = field(kw_only=True, metadata={"static": True})
    logits: str = field(default="logits", kw_only=True, metadata={"static": True})
    labels: str = field(default="labels", kw_only=True, metadata={"static": True})
    threshold: float | None = field(default=None, kw_only=True, metadata={"static": True})

    def sums_shape(self) -> tuple[int, ...]:
        check_num_classes("ConfusionMatrix", self.num_classes)
        check_threshold("ConfusionMatrix", self.threshold)
        return self.num_classes, self.num_classes

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        seen = read_classified(
            self, values, weight, logits=self.logits, labels=self.labels, threshold=self.threshold
        )
        check_seen_classes(self, seen, self.num_classes)
        return self.add_at(seen.labels * self.num_classes + seen.predictions, seen.weight)

    def compute(self) -> jax.Array:
        return self.total
