"""Readers: examples by their numbers, as each kind of source gives them best."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

ReadExamples: TypeAlias = Sequence[Any] | Mapping[str, Any]
"""What a reader gives of n examples: a list of n, or columns of leading dimension n."""


class Reader(Protocol):
    """A source of examples.

    Attributes:
      name: how warnings and errors name the source.
    """

    name: str

    def __len__(self) -> int: ...

    def read(self, numbers: np.ndarray, /) -> ReadExamples:
        """The examples of some numbers (int, shape (n,)), in their order; several threads may ask at once."""
        ...


class OneByOne:
    """A source of which `source[i]` is example i."""

    def __init__(self, source: Any):
        self.name = _name_of(source)
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def read(self, numbers: np.ndarray) -> ReadExamples:
        """See `Reader.read`."""
        return [self._source[number] for number in numbers.tolist()]


class ManyAtOnce(OneByOne):
    """A source that gives a list of examples with `__getitems__`, as a torch `Dataset` may."""

    def read(self, numbers: np.ndarray) -> ReadExamples:
        """See `Reader.read`."""
        return self._source.__getitems__(numbers.tolist())


class OfArray(OneByOne):
    """A NumPy array, a memmap or a view of windows: `source[numbers]` copies what is asked for."""

    def read(self, numbers: np.ndarray) -> ReadExamples:
        """See `Reader.read`."""
        return self._source[numbers]


def reader_of(source: Any) -> Reader:
    """The reader that suits a source.

    Raises:
      TypeError: it cannot be read by number, or holds no examples.
    """
    if isinstance(source, Mapping):
        raise TypeError(
            f"source is one {type(source).__name__} of columns, not examples by number. Columns of equal "
            "length are fourbeat.data.Arrays(**columns)."
        )
    if callable(getattr(source, "batches", None)):
        raise TypeError(f"source is {_name_of(source)}, which is a data set already: use its batches(...).")
    if isinstance(source, str | bytes) or not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        is_passed_over = isinstance(source, Iterable | Iterator) and not isinstance(source, str | bytes)
        repair = " Examples that come one after the other are a stream." if is_passed_over else ""
        raise TypeError(
            f"source is of type {type(source).__name__}, which cannot be read by number: expected len() and "
            f"[i].{repair}"
        )
    if isinstance(source, np.ndarray):
        return OfArray(source)
    return ManyAtOnce(source) if hasattr(source, "__getitems__") else OneByOne(source)


def _name_of(source: Any) -> str:
    return f"the {type(source).__name__}"
