"""Builds a block: batches are copied into it one after the other, as they are read."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fourbeat.compiling.blocks import Block, batch_signature
from fourbeat.data.batch import Batch as DataBatch
from fourbeat.data.own_batches import own_batch
from fourbeat.types import Batch


class BlockFilling:
    """Batches that are alike, side by side.

    NumPy columns are copied once, into the block itself, so the memory of a batch may be used again as soon
    as it was added. The strings of batches lie beside the block as they lie beside a batch.

    Attributes:
      num_steps: the number of batches so far.
    """

    def __init__(self, batch: Batch, size: int):
        self.num_steps = 0
        self._size = size
        self._rows: dict[str, np.ndarray] | None = None
        self._batches: list[Any] = []  # used when a batch is not a dict of NumPy arrays
        self._signature: Any = None
        columns, texts = _apart(batch)
        self._texts: dict[str, list[np.ndarray]] = {name: [] for name in texts}  # by column, one a batch
        if type(columns) is dict and all(type(column) is np.ndarray for column in columns.values()):
            self._rows = {
                name: np.empty((size, *column.shape), column.dtype) for name, column in columns.items()
            }
        else:
            self._signature = batch_signature(columns)
        self.add(batch)

    def takes(self, batch: Batch) -> bool:
        """Whether there is a batch, and it has the form of the first."""
        if batch is None:
            return False
        rows = self._rows
        columns, texts = _apart(batch)
        if {name: text.shape for name, text in texts.items()} != {
            name: added[0].shape for name, added in self._texts.items()
        }:
            return False
        if rows is None:
            return batch_signature(columns) == self._signature
        if type(columns) is not dict or len(columns) != len(rows):
            return False
        for name, column in columns.items():
            row = rows.get(name)
            if row is None or type(column) is not np.ndarray:
                return False
            if column.shape != row.shape[1:] or column.dtype != row.dtype:
                return False
        return True

    def add(self, batch: Batch) -> None:
        """Adds a batch for which `takes` is true."""
        columns, texts = _apart(batch)
        if self._rows is None:
            self._batches.append(own_batch(columns))
        else:
            for name, column in columns.items():
                self._rows[name][self.num_steps] = column
        for name, text in texts.items():
            self._texts[name].append(text)
        self.num_steps += 1

    def block(self) -> Block:
        """The batches as a block. Copies of the last one fill the free places; `num_steps` omits them."""
        if self._rows is None:
            block = Block.stack(self._batches, self._size)
        else:
            for row in self._rows.values():
                row[self.num_steps :] = row[self.num_steps - 1]
                row.setflags(write=False)
            block = Block(self._rows, np.asarray(self.num_steps, np.int32))
        if not self._texts:
            return block
        texts = {name: np.stack(added) for name, added in self._texts.items()}
        return Block(DataBatch(dict(block.batch), stacked=True, texts=texts), block.num_steps)


def _apart(batch: Batch) -> tuple[Batch, Mapping[str, np.ndarray]]:
    """The columns of a batch and its strings; a batch without strings as it is."""
    if not isinstance(batch, DataBatch) or not batch.texts:
        return batch, {}
    is_plain = not batch.transforms and batch.resident is None and batch.padding_weight is None
    return (batch.columns if is_plain else batch.materialize()) or {}, batch.texts
