"""How often the label is among the most likely classes."""

from dataclasses import dataclass, field
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.classified import read_classified
from fourbeat.metrics.summed import WeightedMean


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class TopKAccuracy(WeightedMean):
    """Weighted fraction of examples whose label is among the k highest logits.

    Of equal logits the first classes are taken, so that k = 1 is `Accuracy`. Examples whose label
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

    def sums_shape(self) -> tuple[int, ...]:
        if not isinstance(self.k, int) or self.k < 1:
            raise ValueError(
                f"TopKAccuracy needs k, an int of at least 1, and got {self.k!r}. Write TopKAccuracy(k=5)."
            )
        return (2,)

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        seen = read_classified(self, values, weight, logits=self.logits, labels=self.labels)
        if seen.is_binary or self.k > seen.num_classes:
            raise ValueError(
                f"{self!r} cannot take {self.k} classes of {self.logits!r} of shape "
                f"{seen.logits.shape} for {self.labels!r} of shape {seen.labels.shape}: logits "
                f"are (..., C) with C at least {self.k}. Use a smaller k, or Accuracy()."
            )
        _, likely = jax.lax.top_k(seen.logits, self.k)
        found = jnp.any(likely == seen.labels[..., None], axis=-1)
        return self.add_weighted(found, seen.weight)
