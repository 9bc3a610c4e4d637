"""What batches are gathered from: examples that lie somewhere and are read by their numbers."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import jax
import numpy as np

from fourbeat.data.order import Order

RESIDENT_LIMIT_BYTES = 256 * 2**20
"""Columns of at most this many bytes in all live on the device where `resident="auto"`."""


class HostColumns(NamedTuple):
    """Examples side by side on the host, in fresh memory.

    Attributes:
      columns: name to array of numbers, in a type that JAX keeps.
      texts: name to array of strings; None where there are none.
    """

    columns: dict[str, np.ndarray]
    texts: Mapping[str, np.ndarray] | None = None


class Stored(Protocol):
    """Examples by number.

    Attributes:
      name: how warnings and errors name them.
      num_examples: how many there are.
      size_bytes: of all of them in memory; infinite where nobody knows.
      order: of an epoch, where no other is asked for.
    """

    name: str
    num_examples: int
    size_bytes: float
    order: Order

    def gather(self, index: np.ndarray, /, *, size: int | None = None) -> HostColumns:
        """Examples `index`, in fresh memory; several threads may ask at once.

        Args:
          index: int32 of any shape, of examples that exist.
          size: length of the leading axis; what lies beyond `index` is zeros. Default: nothing does.

        Returns:
          Arrays of shape `(size, *index.shape[1:], *shape of one example's)`.
        """
        ...

    def resident(self) -> dict[str, jax.Array]:
        """All columns on the device, put there by the first call and shared after it."""
        ...

    def select(self, index: slice | np.ndarray, /) -> "Stored":
        """Some of the examples, in the order given."""
        ...
