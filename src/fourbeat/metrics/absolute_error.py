"""Mean absolute error."""

from dataclasses import dataclass, field
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.compared import read_compared
from fourbeat.metrics.summed import WeightedMean


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class MeanAbsoluteError(WeightedMean):
    """Weighted mean of `|predictions - targets|`, over every element.

    Computes a float32 scalar; NaN where nothing was seen.

    Args:
      predictions: name of a real array of any shape.
      targets: name of a real array of the same shape.

    >>> import jax.numpy as jnp
    >>> metric = MeanAbsoluteError()
    >>> float(metric.update(predictions=jnp.array([1.0, 4.0]), targets=jnp.array([1.0, 1.0])).compute())
    1.5
    """

    predictions: str = field(default="predictions", kw_only=True, metadata={"static": True})
    targets: str = field(default="targets", kw_only=True, metadata={"static": True})

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        seen = read_compared(self, values, weight, predictions=self.predictions, targets=self.targets)
        return self.add_weighted(jnp.abs(seen.predictions - seen.targets), seen.weight)
