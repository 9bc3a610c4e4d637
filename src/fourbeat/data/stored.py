"""What batches are gathered from: examples that lie somewhere and are read by their numbers."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import jax
import numpy as np

from fourbeat.data.collating import Lengths
from fourbeat.data.order import Order, StepOrder
from fourbeat.data.own_rows import OwnRows

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
      size_bytes: of all of them in memory; infinite where that is not known.
      order: of an epoch, where no other is asked for.
      is_of_one_shape: whether any B examples that are gathered have the shapes of any other B.
      lengths: of the columns that are gathered with one of several lengths, as far as they are announced.
    """

    name: str
    num_examples: int
    size_bytes: float
    order: Order
    is_of_one_shape: bool
    lengths: Lengths

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

    def resident_over(self, rows: OwnRows, /) -> dict[str, jax.Array]:
        """As `resident`, on the devices of all processes that train together."""
        ...

    def select(self, index: slice | np.ndarray, /) -> "Stored":
        """Some of the examples, in the order given."""
        ...


class StepReader(NamedTuple):
    """Reads the columns of a global step.

    Attributes:
      stored: what they are gathered from.
      order: which examples a step holds.
      own: places in the batch of the examples that this process reads; None for all.
      are_read_alone: whether the examples of a batch can be read without the others. Where a `collate=` has
        to see all of them, all are read, and the own ones are taken.
    """

    stored: Stored
    order: StepOrder
    own: np.ndarray | None = None
    are_read_alone: bool = True

    def __call__(self, step: int) -> HostColumns:
        epoch, place = divmod(step, self.order.num_steps)
        index = self.order.index(epoch)[place]
        if self.own is None:
            return self.stored.gather(index)
        if self.are_read_alone:
            return self.stored.gather(index[self.own])
        columns, texts = self.stored.gather(index)
        taken = {name: column[self.own] for name, column in columns.items()}
        return HostColumns(taken, texts and {name: text[self.own] for name, text in texts.items()})


def in_steps(
    columns: Mapping[str, np.ndarray],
    texts: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
    size: int | None,
) -> HostColumns:
    """Columns of examples one after the other in the shape of their index, as `Stored.gather` gives them."""

    def shaped(array: np.ndarray) -> np.ndarray:
        array = array.reshape(*shape, *array.shape[1:])
        if size is None or size == len(array):
            return array
        whole = np.zeros((size, *array.shape[1:]), array.dtype)
        whole[: len(array)] = array
        return whole

    shaped_texts = {name: text.reshape(*shape, *text.shape[1:]) for name, text in texts.items()}
    return HostColumns({name: shaped(column) for name, column in columns.items()}, shaped_texts or None)


def stack_steps(read: list[HostColumns], size: int) -> HostColumns:
    """The columns of several steps along a new leading axis of `size`; what lies beyond them is zeros."""

    def stacked(arrays: list[np.ndarray]) -> np.ndarray:
        whole = np.zeros((size, *arrays[0].shape), arrays[0].dtype)
        np.stack(arrays, out=whole[: len(arrays)])
        return whole

    columns = {name: stacked([each.columns[name] for each in read]) for name in read[0].columns}
    texts = read[0].texts
    if texts is not None:
        texts = {name: np.stack([(each.texts or {})[name] for each in read]) for name in texts}
    return HostColumns(columns, texts)


def first_change(before: HostColumns, after: HostColumns) -> str | None:
    """The first column that has another shape after than before, and both of them; None where all agree."""
    after_texts = after.texts or {}
    for name, column in (*before.columns.items(), *(before.texts or {}).items()):
        other = after.columns[name] if name in before.columns else after_texts[name]
        if other.shape != column.shape:
            return f"{name!r} has shape {other.shape} after {column.shape}"
    return None
