"""The examples themselves, up to a number of them: what an exact rank needs."""

from dataclasses import dataclass, replace
from typing import Self

import jax
import jax.numpy as jnp

_MOST = 2**31 - 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class KeptExamples:
    """A few numbers of each example of a weight above 0, in a buffer of fixed size.

    Attributes:
      rows: float32 (num_columns + 1, capacity); the last row is the weight, 0 where no example is.
      count: int32 scalar, how many examples there were; above the capacity where some are missing.
    """

    rows: jax.Array
    count: jax.Array

    @classmethod
    def empty(cls, num_columns: int, capacity: int) -> Self:
        return cls(jnp.zeros((num_columns + 1, capacity), jnp.float32), jnp.zeros((), jnp.int32))

    @property
    def capacity(self) -> int:
        return self.rows.shape[-1]

    @property
    def weight(self) -> jax.Array:
        """float32 (capacity,); NaN where examples are missing, so that no score is made of the others."""
        return jnp.where(self.count > self.capacity, jnp.nan, self.rows[-1])

    def add(self, columns: jax.Array, weight: jax.Array) -> Self:
        """The examples with some more behind them.

        Args:
          columns: float32 (num_columns, n).
          weight: float32 (n,); an example of weight 0 takes no place.
        """
        return self._add(jnp.concatenate([columns, weight[None]]), jnp.sum(weight != 0))

    def merge(self, other: Self) -> Self:
        return self._add(other.rows, other.count)

    def _add(self, rows: jax.Array, num_new: jax.Array) -> Self:
        counts = rows[-1] != 0
        place = jnp.minimum(self.count, self.capacity) + jnp.cumsum(counts) - 1
        place = jnp.where(counts, place, self.capacity)  # outside, where nothing is written
        count = self.count + jnp.minimum(num_new.astype(jnp.int32), _MOST - self.count)
        return replace(self, rows=self.rows.at[:, place].set(rows, mode="drop"), count=count)
