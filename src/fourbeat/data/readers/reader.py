"""What a reader is."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from fourbeat.data.order import Order

ReadExamples: TypeAlias = Sequence[Any] | Mapping[str, np.ndarray]
"""What a reader gives of n examples: a list of n, or columns of leading dimension n in fresh memory."""


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

    def place(self, number: int, /) -> str:
        """How errors name one example, as in "example 7 of the Photos"."""
        ...

    def order_of(self, numbers: np.ndarray | None, /) -> Order:
        """The order that suits the source, of an epoch over some of its examples or (None) over all."""
        ...


def side_by_side(columns: Mapping[str, Any], count: int) -> ReadExamples:
    """Columns as they are where each is an array, else examples one by one."""
    arrays = {name: column for name, column in columns.items() if isinstance(column, np.ndarray)}
    if len(arrays) == len(columns):
        return arrays
    return [{name: column[i] for name, column in columns.items()} for i in range(count)]
