"""Columns of equal length as they are stored: checked NumPy arrays and their device copy."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fourbeat.data.collating import Lengths
from fourbeat.data.host_arrays import host_array
from fourbeat.data.order import Order, Permutation
from fourbeat.data.own_rows import OwnRows
from fourbeat.data.placement import place_resident
from fourbeat.data.stored import HostColumns
from fourbeat.types import Object


class Columns:
    """Checked host columns, with a device copy made once, on first use.

    Attributes:
      host: name to read-only NumPy array, in native byte order, in a type that JAX keeps.
      num_examples: length of every column.
      size_bytes: of all columns together.
    """

    name = "the Arrays"
    order: Order = Permutation()
    is_of_one_shape = True
    lengths: Lengths = ()

    def __init__(self, columns: Mapping[str, Any]):
        if not columns:
            raise ValueError(
                "Arrays() has no columns. Name at least one: Arrays(image=images, label=labels)."
            )
        self.host = {name: _stored(name, column) for name, column in columns.items()}
        lengths = {name: len(column) for name, column in self.host.items()}
        if len(set(lengths.values())) > 1:
            seen = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
            raise ValueError(
                f"columns differ in length: {seen}. Entry i of every column is of example i, so all "
                "must have the same length."
            )
        self.num_examples = next(iter(lengths.values()))
        self.size_bytes: float = sum(column.nbytes for column in self.host.values())
        self._device: dict[str, jax.Array] | None = None

    def resident(self) -> dict[str, jax.Array]:
        """The columns on the device, put there by the first call and shared after it."""
        device = self._device
        if device is None:
            device = self._device = place_resident(self.host)
        return device

    def resident_over(self, rows: OwnRows) -> dict[str, jax.Array]:
        """See `Stored.resident_over`: each process has them, and the first step puts them on its devices."""
        return self.resident()

    def gather(self, index: np.ndarray, *, size: int | None = None) -> HostColumns:
        """Examples `index` of each column, in fresh memory: see `Stored.gather`."""
        if size is None or size == len(index):
            return HostColumns({name: _taken(column, index) for name, column in self.host.items()})
        gathered = {}
        for name, column in self.host.items():
            taken = np.zeros((size, *index.shape[1:], *column.shape[1:]), column.dtype)
            _taken(column, index, out=taken[: len(index)])
            gathered[name] = taken
        return HostColumns(gathered)

    def select(self, index: slice | np.ndarray) -> "Columns":
        """The columns of some examples: a view for a slice, a copy for an index array."""
        return Columns({name: column[index] for name, column in self.host.items()})


def _taken(column: np.ndarray, index: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Entries of a column, in fresh memory or in `out`."""
    if column.flags.c_contiguous:
        # "clip" spares the bounds check; the numbers are our own.
        return column.take(index, 0, out=out, mode="clip")
    # take would copy a whole view first, such as one of windows of a file
    if out is None:
        return column[index]
    out[...] = column[index]
    return out


def checked_column(name: str, column: Object) -> np.ndarray:
    """A column whose every value a device can keep; the column `weight` as float32, at least 0 and finite.

    Returns:
      The column itself where it is such an array, else a converted copy.
    """
    place = f"column {name!r}"
    is_weight = name == "weight"
    if is_weight and np.iscomplexobj(column):
        raise ValueError(f"{place} is complex; expected real numbers.")
    array = host_array(place, column, np.dtype(np.float32) if is_weight else None)
    if array.ndim == 0:
        raise ValueError(
            f"{place} is a scalar of shape (): it has no axis of examples. Give one value an example."
        )
    if is_weight:
        _check_weight(array)
    return array


def _stored(name: str, column: Object) -> np.ndarray:
    """A read-only view (or a converted copy) of `column`; the user's own array stays writable."""
    stored = checked_column(name, column).view()
    stored.setflags(write=False)
    return stored


def _check_weight(weight: np.ndarray) -> None:
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"column 'weight' holds {weight[place]} at example {place[0]}, one of {bad.sum()} that are "
            "negative or not finite. A weight says how much an example counts: a finite number of "
            "at least 0, and 0 for one that is left out."
        )
