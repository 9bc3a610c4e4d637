"""Pearson's correlation."""

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
class Pearson(OfMoments):
    """Pearson's correlation of predictions and targets, over every element: how close they lie to a line.

    Computes a float32 scalar in [-1, 1]; NaN where nothing was seen, or all predictions or all targets are
    equal.

    Args:
      predictions: name of a real array of any shape.
      targets: name of a real array of the same shape.

    >>> import jax.numpy as jnp
    >>> seen = Pearson().update(predictions=jnp.array([1.0, 2.0, 3.0]), targets=jnp.array([9.0, 7.0, 5.0]))
    >>> float(seen.compute())
    -1.0
    """

    predictions: str = field(default="predictions", kw_only=True, metadata={"static": True})
    targets: str = field(default="targets", kw_only=True, metadata={"static": True})

    def num_variables(self) -> int:
        return 2

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        seen = read_compared(self, values, weight, predictions=self.predictions, targets=self.targets)
        return self.add_moments([seen.predictions, seen.targets], seen.weight)

    def compute(self) -> jax.Array:
        (one, both), (_, other) = self.moments().covariance
        return jnp.clip(both / (jnp.sqrt(one) * jnp.sqrt(other)), -1, 1)
