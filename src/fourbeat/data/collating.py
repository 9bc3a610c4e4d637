"""Collating: examples side by side as the columns of a batch, stacked or padded to a given length."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import numpy as np

from fourbeat.data.own_rows import TOPIC
from fourbeat.data.stacking import Example, UnlikeError, array_of, columns_of, stacked
from fourbeat.distributed import gather
from fourbeat.types import Object

Lengths: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
"""Columns whose second axis has one of several lengths from batch to batch, and all of those."""


class Collate(Protocol):
    """What puts B examples side by side: `collate(examples) -> dict` of arrays of leading dimension B.

    Where it has an attribute `lengths`, a mapping of column names to lengths as that of `pad_to`, its batches
    may have any of these in their second axis, and a compiled step takes that as announced.
    """

    def __call__(self, examples: Sequence[Example], /) -> Mapping[str, Any]: ...


class PadTo:
    """Pads columns to a given length and stacks the others: made by `pad_to`.

    Attributes:
      lengths: the lengths that each padded column may get, ascending, by its name.
    """

    def __init__(self, lengths: Mapping[str, tuple[int, ...]], values: Mapping[str, Any]):
        self.lengths = MappingProxyType(dict(lengths))
        self._values = dict(values)

    def fill(self, **values: Any) -> "PadTo":
        """The same, with another value than 0 in the padding of these columns.

        Raises:
          ValueError: a column is not one of those that are padded.

        >>> pad_to(tokens=4, labels=4).fill(labels=-100)([{"tokens": [5, 6], "labels": [6, 7]}])["labels"]
        array([[   6,    7, -100, -100]])
        """
        for name in values.keys() - self.lengths.keys():
            raise ValueError(f"fill names {name!r}, which is not padded: pad_to(...) names {self._named()}.")
        return PadTo(self.lengths, {**self._values, **values})

    def __call__(self, examples: Sequence[Example]) -> dict[str, np.ndarray]:
        """The columns of some examples: see `Collate`.

        Raises:
          UnlikeError: an example is too long, or has another shape or other columns than the first.
          ValueError: a column to pad is not there, or a value does not fit its type.
        """
        columns = columns_of(examples)
        missing = [name for name in self.lengths if name not in columns]
        if missing:
            raise ValueError(
                f"pad_to(...) names {missing[0]!r}, and the examples have the columns {', '.join(columns)}."
            )
        ragged = {
            name: [array_of(name, i, value) for i, value in enumerate(columns[name])] for name in self.lengths
        }
        longest: dict[tuple[int, ...], int] = {}
        for name, lengths in self.lengths.items():
            longest[lengths] = max(longest.get(lengths, 0), _longest(name, ragged[name], lengths[-1]))
        chosen = {
            lengths: next(length for length in lengths if length >= needed)
            for lengths, needed in longest.items()
        }
        return {
            name: _padded(name, ragged[name], chosen[self.lengths[name]], self._values.get(name, 0))
            if name in ragged
            else stacked(name, values)
            for name, values in columns.items()
        }

    def in_one_shape(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The columns that this padded, as long as the longest that a process has of the same batch.

        Raises:
          ValueError: another column has other shapes in other processes.
        """
        shapes = {name: list(column.shape[1:]) for name, column in columns.items()}
        seen = gather(shapes, topic=TOPIC)
        agreed = dict(shapes)
        for name in self.lengths:
            agreed[name] = [max(each[name][0] for each in seen), *shapes[name][1:]]
        for process, each in enumerate(seen):
            for name, shape in agreed.items():
                first = int(name in self.lengths)
                if each[name][first:] != shape[first:]:
                    raise ValueError(
                        f"column {name!r} has entries of shape {tuple(shape)} in this process and of shape "
                        f"{tuple(each[name])} in process {process}, of one batch. Name it in pad_to(...), or "
                        "bring it to one shape in decode=."
                    )
        return {name: self._longer(name, column, agreed[name]) for name, column in columns.items()}

    def _longer(self, name: str, column: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        if column.shape[1:] == (*shape,):
            return column
        longer = np.full((len(column), *shape), self._values.get(name, 0), column.dtype)
        longer[:, : column.shape[1]] = column
        return longer

    def __repr__(self) -> str:
        return f"pad_to({self._named()})"

    def _named(self) -> str:
        return ", ".join(f"{name}={lengths}" for name, lengths in self.lengths.items())


def pad_to(**lengths: int | Sequence[int]) -> PadTo:
    """A `collate=` that pads columns of unequal length: each batch to the shortest length that fits it.

    The first axis of an example's column is its length. Columns that name the same lengths are padded to the
    same one. With several lengths a step compiles once for each, which `fourbeat.compile` takes as announced.
    Padding is 0, or what `.fill(labels=-100)` says. Nothing is added: a mask, or a weight that leaves padding
    out of the loss, is a column of ones that `decode` returns and that is padded with 0.

    Args:
      **lengths: name of a column to one length, or to several.

    Raises:
      ValueError: no column is named, or a length is below 1.
      ExampleError: when read, where an example is longer than the last length.

    >>> import numpy as np
    >>> from fourbeat.data import Examples
    >>> def read(text):
    ...     tokens = np.array([ord(letter) for letter in text], np.int32)
    ...     return {"tokens": tokens, "weight": np.ones(len(tokens), np.float32)}
    >>> data = Examples(["ab", "c", "defgh"], decode=read, collate=pad_to(tokens=(2, 8), weight=(2, 8)))
    >>> batches = data.batches(1)
    >>> batches[1]["tokens"].tolist(), batches[1]["weight"].tolist()
    ([[99, 0]], [[1.0, 0.0]])
    >>> [batches[step]["tokens"].shape for step in range(3)]
    [(1, 2), (1, 2), (1, 8)]
    """
    if not lengths:
        raise ValueError(
            "pad_to() names no column. Name what is to be padded: pad_to(tokens=(64, 128, 256))."
        )
    return PadTo({name: ascending(f"pad_to({name}=...)", given) for name, given in lengths.items()}, {})


def announced_lengths(collate: Object) -> Lengths:
    """The columns to which a `Collate` gives one of several lengths."""
    lengths: Mapping[str, Sequence[int]] = getattr(collate, "lengths", {})
    return tuple((name, tuple(given)) for name, given in sorted(lengths.items()) if len(given) > 1)


def ascending(place: str, lengths: int | Sequence[int]) -> tuple[int, ...]:
    """Lengths in ascending order, each once, from one or several.

    Raises:
      ValueError: there is none, or one is no whole number of at least 1.
    """
    given = np.atleast_1d(np.asarray(lengths))
    if given.ndim != 1 or not len(given) or given.dtype.kind not in "iu" or given.min() < 1:
        raise ValueError(f"{place} is {lengths!r}; expected one or several whole numbers of at least 1.")
    return tuple(sorted(set(given.tolist())))


def _longest(name: str, column: list[np.ndarray], limit: int) -> int:
    for place, array in enumerate(column):
        if array.ndim == 0 or array.shape[1:] != column[0].shape[1:]:
            expected = f"(length{''.join(f', {size}' for size in column[0].shape[1:]) or ','})"
            raise UnlikeError(
                place, f"its {name!r} has shape {array.shape}, and pad_to(...) expects {expected}"
            )
        if len(array) > limit:
            raise UnlikeError(
                place,
                f"its {name!r} has length {len(array)}, and pad_to(...) ends at {limit}. Cut it in decode=, "
                f"or name a greater length: pad_to({name}=(..., {len(array)}))",
            )
    return max(map(len, column))


def _padded(name: str, column: list[np.ndarray], length: int, value: Object) -> np.ndarray:
    dtype = np.result_type(*column)
    with np.errstate(invalid="ignore"):
        kept = np.asarray(value).astype(dtype)
    if not np.array_equal(kept, value, equal_nan=dtype.kind in "fc"):
        raise ValueError(f"pad_to(...) fills {name!r} with {value!r}, which does not fit its type, {dtype}.")
    padded = np.full((len(column), length, *column[0].shape[1:]), kept, dtype)
    for place, array in enumerate(column):
        padded[place, : len(array)] = array
    return padded
