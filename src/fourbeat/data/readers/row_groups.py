"""Parquet files, read by row group."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fourbeat.data.group_order import ByGroups
from fourbeat.data.readers.arrow_values import Piece, Values, gathered, places_of, whole
from fourbeat.data.readers.kept_groups import KeptGroups
from fourbeat.data.readers.open_files import OpenFiles
from fourbeat.data.readers.reader import ReadExamples, side_by_side

_MOST_OPEN = 8  # opening a file takes as long as reading 20 rows of it


class RowGroups:
    """The examples of some Parquet files, one file after the other.

    Args:
      paths: of the files.
      columns: which ones, in this order; None for all.
      window: examples that a shuffle mixes at a time.
      name: how errors name them.
    """

    def __init__(self, paths: Sequence[Path], columns: Iterable[str] | None, window: int, name: str):
        self.name = name
        self._paths = paths
        self._metadata = [_metadata(path) for path in paths]
        self._columns = _checked_columns(paths, self._metadata, columns)
        # the row group of a number: its file, and its place there
        self._groups = [
            (file, group) for file, each in enumerate(self._metadata) for group in range(each.num_row_groups)
        ]
        sizes = [self._metadata[file].row_group(group).num_rows for file, group in self._groups]
        self._ends = np.cumsum(sizes, dtype=np.int64)
        mean_size = max(len(self) / max(len(sizes), 1), 1)
        self._mixed = max(2, int(np.ceil(window / mean_size)))
        self._begin()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, numbers: np.ndarray) -> ReadExamples:
        """See `Reader.read`."""
        group_of = self._group_of(numbers)
        found = []
        for places in places_of(group_of):
            group = int(group_of[places[0]])
            start = self._ends[group - 1] if group else 0
            found.append((self._kept(group), numbers[places] - start, places))
        columns = {
            name: gathered([Piece(group[name], rows, places) for group, rows, places in found], len(numbers))
            for name in self._columns
        }
        return side_by_side(columns, len(numbers))

    def place(self, number: int) -> str:
        """See `Reader.place`."""
        if len(self._paths) == 1:
            return f"example {number} of {self.name}"
        file, _ = self._groups[int(self._group_of(np.asarray(number)))]
        before = sum(each.num_rows for each in self._metadata[:file])
        return f"example {number} (row {number - before} of {self._paths[file].name}) of {self.name}"

    def order_of(self, numbers: np.ndarray | None) -> ByGroups:
        """See `Reader.order_of`."""
        return ByGroups(partial(self._group_of, numbers), self._mixed)

    def _group_of(self, numbers: np.ndarray | None) -> np.ndarray:
        numbers = np.arange(len(self)) if numbers is None else numbers
        return np.searchsorted(self._ends, numbers, side="right")

    def _begin(self) -> None:
        # those being mixed, and as many again by half: batches that are read ahead reach into the next ones
        self._kept = KeptGroups(self._load, self._mixed + self._mixed // 2 + 2)
        self._open = OpenFiles(self._open_file, _MOST_OPEN)

    def _load(self, group: int) -> dict[str, Values]:
        file, place = self._groups[group]
        with self._open(file) as opened:
            # for two columns, threads of its own cost a tenth more than they gain
            table = opened.read_row_group(place, columns=self._columns, use_threads=len(self._columns) > 2)
        return {name: whole(table.column(name)) for name in self._columns}

    def _open_file(self, file: int) -> Any:
        import pyarrow.parquet

        # reading ahead within the file is for remote ones: it takes twice the time here
        return pyarrow.parquet.ParquetFile(self._paths[file], metadata=self._metadata[file], pre_buffer=False)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_kept", "_open")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._begin()


def _metadata(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_metadata(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"cannot read {path} as Parquet: {error}") from None


def _checked_columns(
    paths: Sequence[Path], metadata: Sequence[Any], columns: Iterable[str] | None
) -> list[str]:
    schemas = [each.schema.to_arrow_schema() for each in metadata]
    names = list(schemas[0].names if columns is None else columns)
    if isinstance(columns, str) or not names:
        raise ValueError(
            f"columns is {columns!r}; expected a list of names out of {', '.join(schemas[0].names)}."
        )
    for path, schema in zip(paths, schemas, strict=True):
        missing = [name for name in names if name not in schema.names]
        if missing:
            raise ValueError(
                f"{path} has no column {', '.join(map(repr, missing))}: its columns are "
                f"{', '.join(schema.names)}."
            )
        for name in names:
            kinds = schema.field(name).type, schemas[0].field(name).type
            if kinds[0] != kinds[1]:
                raise ValueError(
                    f"column {name!r} of {path} is {kinds[0]}, where that of {paths[0]} is {kinds[1]}: write "
                    "them with one type, or leave the column out with columns=."
                )
    return names
