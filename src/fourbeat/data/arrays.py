"""A data set in memory: columns of equal length."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from fourbeat.data.columns import Columns
from fourbeat.data.data_set import DataSet


class Arrays(DataSet):
    """Columns of equal length; entry i of each belongs to example i.

    An `Arrays` never changes: slicing, `split` and `map` give new ones, which share memory where they can. Do
    not write to an array after handing it over. 64-bit columns become 32-bit ones unless JAX's 64-bit types
    are on. A column named `weight` (float32) weighs the examples in losses and metrics, each at least 0 and
    finite; padding multiplies it by 0.

    Args:
      **columns: arrays, or what `numpy.asarray` takes, of numbers; shape (n, ...).

    Raises:
      TypeError: a column is not of numbers.
      ValueError: there are no columns, their lengths differ, or a value does not fit its 32-bit type or
        is masked.

    >>> import numpy as np
    >>> data = Arrays(image=np.zeros((6, 28, 28), np.uint8), label=[0, 1, 2, 3, 4, 5])
    >>> data
    Arrays(6 examples: image uint8 (28, 28), label int32 ())
    >>> data[2:4].columns["label"].tolist()
    [2, 3]
    """

    def __init__(self, /, **columns: Any):
        super().__init__(Columns(columns))

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """Name to stored array, both read-only; before any mapped function."""
        return MappingProxyType(self._columns.host)

    @property
    def _columns(self) -> Columns:
        assert isinstance(self._stored, Columns)
        return self._stored

    _to_read_one = "To read examples: data.columns['...'][i]. "

    def __repr__(self) -> str:
        columns = ", ".join(
            f"{name} {column.dtype} {column.shape[1:]}" for name, column in self.columns.items()
        )
        return f"Arrays({len(self)} examples: {columns})"
