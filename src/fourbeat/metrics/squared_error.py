"""Mean squared error."""

from dataclasses import dataclass, field
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.inputs import named_value, spread_weight
from fourbeat.metrics.summed import WeightedMean


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class MeanSquaredError(WeightedMean):
    """Weighted mean of `(predictions - targets) ** 2`, over every element.

    Computes a float32 scalar; NaN where nothing was seen.

    Args:
      predictions: name of a real array of any shape.
      targets: name of a real array of the same shape.

    >>> metric = MeanSquaredError()
    >>> seen = metric.update(predictions=jnp.array([1.0, 3.0]), targets=jnp.array([1.0, 1.0]))
    >>> float(seen.compute())
    2.0
    """

    predictions: str = field(default="predictions", kw_only=True, metadata={"static": True})
    targets: str = field(default="targets", kw_only=True, metadata={"static": True})

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        rename = 'MeanSquaredError({}="...")'
        predictions = named_value(self, values, self.predictions, rename=rename.format("predictions"))
        targets = named_value(self, values, self.targets, rename=rename.format("targets"))
        if predictions.shape != targets.shape:
            raise ValueError(
                f"{self!r} cannot compare {self.predictions!r} of shape {predictions.shape} with "
                f"{self.targets!r} of shape {targets.shape}: the shapes must be equal, because "
                f"broadcasting them would compare every example with every other. "
                f"Reshape one, such as {self.predictions}.reshape({self.targets}.shape)."
            )
        weight = spread_weight(self, targets.shape, weight, of=repr(self.targets))
        error = jnp.square(predictions.astype(jnp.float32) - targets.astype(jnp.float32))
        return self.add_weighted(error, weight)
