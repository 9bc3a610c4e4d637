"""The weighted mean, of a named value or of what a user's function returns."""

from dataclasses import dataclass
from typing import Any, Self, final

import jax
from jax.typing import ArrayLike

from fourbeat.metrics import totals
from fourbeat.metrics.summed import WeightedMean
from fourbeat.metrics.valued import Valued, names_read


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Mean(Valued, WeightedMean):
    """Weighted mean of a value, or of what a function makes of the values: a metric of your own.

    Computes float32 `sum(value * weight) / sum(weight)`; NaN where nothing was seen.

    Args:
      value: name of a real array that holds one number an example; or a function that returns such
        an array. The names of the function's parameters say which values it is given; one that has
        a default may be missing. Define the function once: the same lambda written twice is two
        functions, and a step compiled for one is compiled again for the other.

    Raises:
      TypeError: `value` is neither, or the function has a parameter that no value can be given to.
      ValueError: on update, the first axis of what the function returned is not the batch's.

    Warns:
      CrossedExamplesWarning: on update, the function returned a value for every pair of examples.

    >>> import jax.numpy as jnp
    >>> loss, weight = jnp.array([1.0, 4.0, jnp.nan]), jnp.array([1.0, 0.5, 0.0])
    >>> float(Mean("loss").update(loss=loss, weight=weight).compute())
    2.0
    >>> def absolute_error(predictions, targets):
    ...     return jnp.abs(predictions - targets)
    >>> error = Mean(absolute_error)
    >>> error
    Mean(absolute_error)
    >>> float(error.update(predictions=jnp.array([1.0, 2.0]), targets=jnp.zeros(2)).compute())
    1.5
    """

    def __post_init__(self) -> None:
        if self.sums is totals.FRESH:
            names_read(self, self.value)
        super().__post_init__()

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        return self.add_weighted(*self.read(values, weight))
