"""The last of the values."""

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp

from fourbeat.metrics.kept_value import KeptValue


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Last(KeptValue):
    """The last value of a weight above 0, such as a rate or a temperature.

    Computes a float32 scalar; NaN where nothing was seen. Of an array it is the last number in row-major
    order. `metric.merge(other)` takes `other` for the later.

    Args:
      value: as that of `Min`.

    >>> import jax.numpy as jnp
    >>> seen = Last("temperature").update(temperature=2.0).update(temperature=1.5)
    >>> float(seen.compute())
    1.5
    """

    def of_batch(self, value, counts):
        place = jnp.max(jnp.where(counts, jnp.arange(1, counts.size + 1), 0), initial=0)
        return jnp.concatenate([jnp.zeros(1), value])[place]

    def of_two(self, earlier, later):
        return later
