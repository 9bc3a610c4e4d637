"""The smallest and the largest of the values."""

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp

from fourbeat.metrics.kept_value import KeptValue


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Min(KeptValue):
    """The smallest value of a weight above 0, float32; NaN where nothing was seen, or a value is NaN.

    Args:
      value: as that of `Mean`: the name of a real array, or a function of named values. A scalar of a batch,
        such as a norm, counts where any example of it does.

    >>> import jax.numpy as jnp
    >>> seen = Min("loss").update(loss=jnp.array([3.0, 2.0, 1.0]), weight=jnp.array([1, 1, 0]))
    >>> float(seen.compute())
    2.0
    """

    def of_batch(self, value, counts):
        return jnp.min(jnp.where(counts, value, jnp.inf), initial=jnp.inf)

    def of_two(self, earlier, later):
        return jnp.minimum(earlier, later)


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Max(KeptValue):
    """The largest value of a weight above 0, float32; NaN where nothing was seen, or a value is NaN.

    Args:
      value: as that of `Min`.

    >>> import jax.numpy as jnp
    >>> seen = Max("loss").update(loss=jnp.array([1.0, 2.0, 3.0]), weight=jnp.array([1, 1, 0]))
    >>> float(seen.compute())
    2.0
    """

    def of_batch(self, value, counts):
        return jnp.max(jnp.where(counts, value, -jnp.inf), initial=-jnp.inf)

    def of_two(self, earlier, later):
        return jnp.maximum(earlier, later)
