"""Builds a block: batches are copied into it one after the other, as they are read."""

from typing import Any

import numpy as np

from fourbeat.compiling.blocks import Block, batch_signature
from fourbeat.data.own_batches import own_batch
from fourbeat.types import Batch


class BlockFilling:
    """Batches that are alike, side by side.

    NumPy columns are copied once, into the block itself, so the memory of a batch may be used again as soon
    as it was added.

    Attributes:
      num_steps: the number of batches so far.
    """

    def __init__(self, batch: Batch, size: int):
        self.num_steps = 0
        self._size = size
        self._rows: dict[str, np.ndarray] | None = None
        self._batches: list[Any] = []  # used when a batch is not a dict of NumPy arrays
        self._signature: Any = None
        if type(batch) is dict and all(type(column) is np.ndarray for column in batch.values()):
            self._rows = {
                name: np.empty((size, *column.shape), column.dtype) for name, column in batch.items()
            }
        else:
            self._signature = batch_signature(batch)
        self.add(batch)

    def takes(self, batch: Batch) -> bool:
        """Whether there is a batch, and it has the form of the first."""
        if batch is None:
            return False
        rows = self._rows
        if rows is None:
            return batch_signature(batch) == self._signature
        if type(batch) is not dict or len(batch) != len(rows):
            return False
        for name, column in batch.items():
            row = rows.get(name)
            if row is None or type(column) is not np.ndarray:
                return False
            if column.shape != row.shape[1:] or column.dtype != row.dtype:
                return False
        return True

    def add(self, batch: Batch) -> None:
        """Adds a batch for which `takes` is true."""
        if self._rows is None:
            self._batches.append(own_batch(batch))
        else:
            for name, column in batch.items():
                self._rows[name][self.num_steps] = column
        self.num_steps += 1

    def block(self) -> Block:
        """The batches as a block. Copies of the last one fill the free places; `num_steps` omits them."""
        if self._rows is None:
            return Block.stack(self._batches, self._size)
        for row in self._rows.values():
            row[self.num_steps :] = row[self.num_steps - 1]
            row.setflags(write=False)
        return Block(self._rows, np.asarray(self.num_steps, np.int32))
