"""What a reader is."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

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
