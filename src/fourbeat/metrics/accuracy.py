"""How often the label is the predicted class, or among the most likely ones."""

from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics import totals
from fourbeat.metrics.classified import read_classified
from fourbeat.metrics.inputs import weighted_sums
from fourbeat.metrics.metric import Metric, check_mergeable


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Accuracy(Metric):
    """Weighted fraction of items whose predicted class is their label.

    The predicted class is the one of the highest logit, the first of equals. Logits of the labels'
    own shape are those of class 1 against class 0: class 1 is predicted where they are above 0.
    Items whose label is no class, such as -1, are left out. Computes a float32 scalar in [0, 1]; NaN where
    nothing was seen.

    Args:
      logits: name of a real array (..., C), or (...) for two classes.
      labels: name of an integer array (...).

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
    sums: jax.Array = field(default=totals.FRESH, kw_only=True)

    def __post_init__(self) -> None:
        if self.sums is totals.FRESH:
            object.__setattr__(self, "sums", totals.zeros(2))

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        items = read_classified(self, values, weight, logits=self.logits, labels=self.labels)
        correct = weighted_sums(items.predictions == items.labels, items.weight)
        return replace(self, sums=totals.add(self.sums, correct))

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return replace(self, sums=totals.merge(self.sums, other.sums))

    def compute(self) -> jax.Array:
        correct, weight = totals.read(self.sums)
        return correct / weight

    def reset(self) -> Self:
        return replace(self, sums=totals.zeros(2))


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class TopKAccuracy(Metric):
    """Weighted fraction of items whose label is among the k highest logits.

    Of equal logits the first classes are taken, so that k = 1 is `Accuracy`. Items whose label
    is no class are left out. Computes a float32 scalar in [0, 1]; NaN where nothing was seen.

    Args:
      k: how many classes are taken, from 1 to C.
      logits: name of a real array (..., C).
      labels: name of an integer array (...).

    Raises:
      ValueError: k is not an integer of at least 1; on update, k is above C or logits have no
        class axis.

    >>> logits, labels = jnp.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), jnp.array([1, 2])
    >>> float(TopKAccuracy(k=2).update(logits=logits, labels=labels).compute())
    0.5
    """

    k: int = field(kw_only=True, metadata={"static": True})
    logits: str = field(default="logits", kw_only=True, metadata={"static": True})
    labels: str = field(default="labels", kw_only=True, metadata={"static": True})
    sums: jax.Array = field(default=totals.FRESH, kw_only=True)

    def __post_init__(self) -> None:
        if self.sums is totals.FRESH:
            if not isinstance(self.k, int) or self.k < 1:
                raise ValueError(
                    f"TopKAccuracy needs k, an int of at least 1, and got {self.k!r}. "
                    f"Write TopKAccuracy(k=5)."
                )
            object.__setattr__(self, "sums", totals.zeros(2))

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        items = read_classified(self, values, weight, logits=self.logits, labels=self.labels)
        if items.is_binary or self.k > items.num_classes:
            raise ValueError(
                f"{self!r} cannot take {self.k} classes of {self.logits!r} of shape "
                f"{items.logits.shape} for {self.labels!r} of shape {items.labels.shape}: logits "
                f"are (..., C) with C at least {self.k}. Use a smaller k, or Accuracy()."
            )
        _, likely = jax.lax.top_k(items.logits, self.k)
        found = jnp.any(likely == items.labels[..., None], axis=-1)
        return replace(self, sums=totals.add(self.sums, weighted_sums(found, items.weight)))

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return replace(self, sums=totals.merge(self.sums, other.sums))

    def compute(self) -> jax.Array:
        found, weight = totals.read(self.sums)
        return found / weight

    def reset(self) -> Self:
        return replace(self, sums=totals.zeros(2))
