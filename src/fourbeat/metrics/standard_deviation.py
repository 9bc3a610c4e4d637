"""The standard deviation of a value."""

from dataclasses import dataclass
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.moments import OfMoments
from fourbeat.metrics.totals import FRESH
from fourbeat.metrics.valued import Valued, names_read


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Std(Valued, OfMoments):
    """Weighted standard deviation of a value, over the summed weight as in `numpy.std`.

    Computes a float32 scalar; NaN where nothing was seen. A mean that is large against it costs no digits.

    Args:
      value: as that of `Mean`: the name of a real array, or a function of named values.

    >>> import jax.numpy as jnp
    >>> seen = Std("loss").update(loss=jnp.array([1.0, 3.0, 9.0]), weight=jnp.array([1, 1, 0]))
    >>> float(seen.compute())
    1.0
    """

    def __post_init__(self) -> None:
        if self.sums is FRESH:
            names_read(self, self.value)
        super().__post_init__()

    def num_variables(self) -> int:
        return 1

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        value, weights = self.read(values, weight)
        return self.add_moments([value.astype(jnp.float32)], weights)

    def compute(self) -> jax.Array:
        return jnp.sqrt(jnp.maximum(self.moments().covariance[0, 0], 0))
