"""A metric with a weight or a mask of its own."""

from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.inputs import named_value
from fourbeat.metrics.metric import Metric, check_mergeable


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Weighted(Metric):
    """A metric whose examples weigh what a value of the batch says, times the batch's own weight.

    For a model with two heads: each score has a mask of its own, a column of the batch or a name in the aux
    of the loss function. The batch's own weight goes on to count, so that padding weighs nothing.

    Args:
      metric: the metric, or a collection.
      by: name of a real or boolean array, of the shape of the metric's values or of their leading axes; at
        least 0. What it leaves out by 0 may hold NaN.

    Raises:
      TypeError: `metric` is no metric, or `by` no name.

    >>> import jax.numpy as jnp
    >>> from fourbeat.metrics import Collection, Mean
    >>> metrics = Collection(all=Mean("error"), known=Weighted(Mean("error"), by="is_known"))
    >>> metrics
    Collection(all=Mean('error'), known=Weighted(Mean('error'), by='is_known'))
    >>> seen = metrics.update(error=jnp.array([1.0, 3.0, 5.0]), is_known=jnp.array([True, True, False]))
    >>> {name: float(value) for name, value in seen.compute().items()}
    {'all': 3.0, 'known': 2.0}
    """

    metric: Metric
    by: str = field(kw_only=True, metadata={"static": True})

    def __post_init__(self) -> None:
        if callable(self.metric) or isinstance(self.metric, str) or not isinstance(self.by, str):
            raise TypeError(
                f"Weighted takes a metric and the name of a value, and got {self.metric!r} and "
                f"by={self.by!r}. "
                'Write Weighted(Mean("loss"), by="mask").'
            )

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        own = named_value(self, values, self.by, rename='Weighted(..., by="...")').astype(jnp.float32)
        if weight is not None:
            own = self._product(own, jnp.asarray(weight).astype(jnp.float32))
        return replace(self, metric=self.metric.update(weight=own, **values))

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return replace(self, metric=self.metric.merge(other.metric))

    def compute(self) -> Any:
        return self.metric.compute()

    def reset(self) -> Self:
        return replace(self, metric=self.metric.reset())

    def __repr__(self) -> str:
        return f"Weighted({self.metric!r}, by={self.by!r})"

    def _product(self, own: jax.Array, weight: jax.Array) -> jax.Array:
        """Both weights multiplied, the one of fewer axes spread over the trailing axes of the other."""
        shared = min(own.ndim, weight.ndim)
        if own.shape[:shared] != weight.shape[:shared]:
            raise ValueError(
                f"{self!r} cannot multiply {self.by!r} of shape {own.shape} with a weight of shape "
                f"{weight.shape}: one needs the shape of the other, or of its leading axes."
            )
        own, weight = (
            each.reshape(each.shape + (1,) * (max(own.ndim, weight.ndim) - each.ndim))
            for each in (own, weight)
        )
        return jnp.where((own == 0) | (weight == 0), 0, own * weight)
