"""The coefficient of determination."""

from dataclasses import dataclass, field
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.compared import read_compared
from fourbeat.metrics.moments import OfMoments


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class R2(OfMoments):
    """Coefficient of determination: the fraction of the targets' variance that the predictions explain.

    `1 - sum(weight * (targets - predictions)**2) / sum(weight * (targets - mean)**2)`, over every element: a
    second axis is no axis of separate outputs, so give each output a metric of its own. Equal to
    scikit-learn's `r2_score` of the flat arrays, also where all targets are equal: 1 where the predictions
    are right, 0 where they are not. Computes a float32 scalar; NaN where nothing was seen.

    Args:
      predictions: name of a real array of any shape.
      targets: name of a real array of the same shape.

    >>> import jax.numpy as jnp
    >>> seen = R2().update(predictions=jnp.array([1.0, 2.0, 4.0]), targets=jnp.array([1.0, 2.0, 3.0]))
    >>> float(seen.compute())
    0.5
    """

    predictions: str = field(default="predictions", kw_only=True, metadata={"static": True})
    targets: str = field(default="targets", kw_only=True, metadata={"static": True})

    def num_variables(self) -> int:
        return 2

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        seen = read_compared(self, values, weight, predictions=self.predictions, targets=self.targets)
        return self.add_moments([seen.targets - seen.predictions, seen.targets], seen.weight)

    def compute(self) -> jax.Array:
        weight, mean, covariance = self.moments()
        error, spread = jnp.square(mean[0]) + covariance[0, 0], covariance[1, 1]
        of_equal_targets = jnp.where(error == 0, 1.0, 0.0)
        explained = jnp.where(spread == 0, of_equal_targets, 1 - error / spread)
        return jnp.where(weight == 0, jnp.nan, explained)
