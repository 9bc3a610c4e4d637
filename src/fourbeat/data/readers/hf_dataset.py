"""A Hugging Face `Dataset`."""

from typing import Any

import numpy as np

from fourbeat.data.readers.arrow_values import ArrowColumn, Values, is_plain
from fourbeat.data.readers.by_number import OneByOne
from fourbeat.data.readers.reader import ReadExamples, side_by_side
from fourbeat.types import Object

_OF_TABLES = (None, "numpy", "arrow", "pandas", "polars")


class OfHfDataset(OneByOne):
    """A `datasets.Dataset`: numbers out of its Arrow table with their types, other columns as it decodes
    them.

    A format that makes other values, such as "torch" or a transform, is left to the data set.
    """

    def __init__(self, source: Object):
        super().__init__(source)
        self._begin()

    def read(self, numbers: np.ndarray) -> ReadExamples:
        """See `Reader.read`."""
        columns: dict[str, Values] = {}
        rows = numbers if self._rows is None else self._rows[numbers]
        for name, column in self._plain.items():
            columns[name] = column.take(rows)
        if self._decoded is not None:
            columns |= self._decoded[numbers.tolist()]
        return side_by_side({name: columns[name] for name in self._names(columns)}, len(numbers))

    def _begin(self) -> None:
        source = self._source
        kind = source.format
        self._plain: dict[str, ArrowColumn] = {}
        self._rows: np.ndarray | None = None
        self._decoded: Any = source
        if kind["type"] not in _OF_TABLES or kind["format_kwargs"] or not hasattr(source, "_indices"):
            self._order_of_names: list[str] | None = None
            return
        self._order_of_names = list(kind["columns"] or source.column_names)
        if source._indices is not None:  # those of select, shuffle, train_test_split and filter
            self._rows = source._indices.column(0).to_numpy()
        table = source.data.table
        for name in self._order_of_names:
            if is_plain(table.schema.field(name).type):
                self._plain[name] = ArrowColumn(table.column(name))
        rest = [name for name in self._order_of_names if name not in self._plain]
        self._decoded = source.select_columns(rest).with_format(None) if rest else None

    def _names(self, columns: dict[str, Values]) -> list[str]:
        return list(columns) if self._order_of_names is None else self._order_of_names

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "_source": self._source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._begin()
