"""Sources of which `source[i]` is example i."""

import numpy as np

from fourbeat.data.order import Order, Permutation
from fourbeat.data.readers.reader import ReadExamples
from fourbeat.types import Object


class OneByOne:
    """A source that gives one example at a time."""

    def __init__(self, source: Object):
        self.name = name_of(source)
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def read(self, numbers: np.ndarray) -> ReadExamples:
        """See `Reader.read`."""
        source = self._source
        return [source[number] for number in numbers.tolist()]

    def place(self, number: int) -> str:
        """See `Reader.place`."""
        return f"example {number} of {self.name}"

    def order_of(self, numbers: np.ndarray | None) -> Order:
        """See `Reader.order_of`."""
        return Permutation()


class ManyAtOnce(OneByOne):
    """A source that gives a list of examples with `__getitems__`, as a torch `Dataset` may."""

    def read(self, numbers: np.ndarray) -> ReadExamples:
        """See `Reader.read`."""
        read = self._source.__getitems__(numbers.tolist())
        if len(read) != len(numbers) and isinstance(read, list | tuple):
            raise ValueError(
                f"__getitems__ gave {len(read)} for {len(numbers)} numbers; expected one example each"
            )
        return read


class OfArray(OneByOne):
    """A NumPy array, a memmap or a view of windows: `source[numbers]` copies what is asked for."""

    def read(self, numbers: np.ndarray) -> ReadExamples:
        """See `Reader.read`."""
        return self._source[numbers]


def name_of(source: Object) -> str:
    """How errors name a source.

    >>> name_of([1, 2])
    'the list'
    """
    return f"the {type(source).__name__}"
