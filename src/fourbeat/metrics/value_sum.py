"""The weighted sum of a value."""

from dataclasses import dataclass
from typing import Any, Self, final

import jax
from jax.typing import ArrayLike

from fourbeat.metrics import totals
from fourbeat.metrics.inputs import weighted_sums
from fourbeat.metrics.summed import Summed
from fourbeat.metrics.valued import Valued, names_read


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Sum(Valued, Summed):
    """Weighted sum of a value: `sum(value * weight)`, float32; 0 where nothing was seen.

    Args:
      value: as that of `Mean`: the name of a real array, or a function of named values.

    >>> import jax.numpy as jnp
    >>> seen = Sum("tokens").update(tokens=jnp.array([3.0, 4.0, 9.0]), weight=jnp.array([1, 1, 0]))
    >>> float(seen.compute())
    7.0
    """

    def __post_init__(self) -> None:
        if self.sums is totals.FRESH:
            names_read(self, self.value)
        super().__post_init__()

    def sums_shape(self) -> tuple[int, ...]:
        return ()

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        return self.add(weighted_sums(*self.read(values, weight))[0])

    def compute(self) -> jax.Array:
        return self.total
