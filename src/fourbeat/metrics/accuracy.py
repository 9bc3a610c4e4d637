"""How often the label is the predicted class."""

from dataclasses import dataclass, field
from typing import Any, Self, final

import jax
from jax.typing import ArrayLike

from fourbeat.metrics.classified import check_threshold, read_classified
from fourbeat.metrics.summed import WeightedMean


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Accuracy(WeightedMean):
    """Weighted fraction of examples whose predicted class is their label.

    The predicted class is the one of the highest logit, the first of equals. Logits of the labels'
    own shape are those of class 1 against class 0: class 1 is predicted where they are above 0, or above
    `threshold`, such as 0.5 for probabilities.
    Examples whose label is no class, such as -1, are left out. Computes a float32 scalar in [0, 1]; NaN where
    nothing was seen.

    Args:
      logits: name of a real array (..., C), or (...) for two classes.
      labels: name of an integer array (...).
      threshold: above which class 1 of two is predicted, for logits (...); None for 0.

    >>> import jax.numpy as jnp
    >>> logits, labels = jnp.array([[2.0, 1.0], [0.0, 3.0], [5.0, 1.0]]), jnp.array([0, 1, 1])
    >>> accuracy = Accuracy().update(logits=logits, labels=labels, weight=jnp.array([1, 1, 2]))
    >>> float(accuracy.compute())
    0.5
    >>> binary = Accuracy().update(logits=jnp.array([-1.0, 3.0]), labels=jnp.array([0, 1]))
    >>> float(binary.compute())
    1.0
    """

    logits: str = field(default="logits", kw_only=True, metadata={"static": True})
    labels: str = field(default="labels", kw_only=True, metadata={"static": True})
    threshold: float | None = field(default=None, kw_only=True, metadata={"static": True})

    def sums_shape(self) -> tuple[int, ...]:
        check_threshold("Accuracy", self.threshold)
        return super().sums_shape()

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        seen = read_classified(
            self, values, weight, logits=self.logits, labels=self.labels, threshold=self.threshold
        )
        return self.add_weighted(seen.predictions == seen.labels, seen.weight)
