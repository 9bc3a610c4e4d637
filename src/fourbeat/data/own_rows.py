"""Own rows: which examples of a batch a process reads, where several train together."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

TOPIC = "data"
"""Under which the processes agree on what they read."""


class OwnRows(Protocol):
    """The rows of a batch that the devices of this process hold, and how it hands them over.

    `fourbeat.shard.process_rows` makes one of a mesh: what reads batches knows no mesh.
    """

    def of(self, num_rows: int, /) -> np.ndarray:
        """The places of the own rows in a batch of so many, ascending."""
        ...

    def placed(self, columns: Mapping[str, np.ndarray], num_rows: int, *, num_leading: int) -> dict[str, Any]:
        """Arrays over the whole mesh, of which this process gives its own rows.

        Args:
          columns: own rows alone.
          num_rows: of the whole batch.
          num_leading: axes before that of the rows.
        """
        ...

    def gathered(
        self, read: Callable[[np.ndarray], Mapping[str, np.ndarray]], num_examples: int, /
    ) -> dict[str, Any]:
        """Columns of all examples on every device, of which each process reads a part.

        Args:
          read: gives the columns of examples by their numbers.
          num_examples: how many there are.
        """
        ...
