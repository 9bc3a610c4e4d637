"""Columns out of CSV and Parquet files."""

import csv
import hashlib
import importlib.util
import io
import itertools
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fourbeat.recipes.columns.values import Type, Values
from fourbeat.runs.printing import printable

MISSING = ("", "?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None")
"""What a CSV file says of a value that is missing; letters count as they are."""

_DELIMITERS = ",;\t|"
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?")
_NO_TEXT = {*range(9), *range(14, 32)}  # bytes that no text has
_DAY_US = 86_400e6


def check_extra(what: str) -> None:
    """Raises an ImportError where a package of the extra is not installed."""
    for module, package in (("pyarrow", "pyarrow"), ("sklearn", "scikit-learn")):
        if importlib.util.find_spec(module) is None:
            raise ImportError(
                f"{what} needs {package}, which is not installed: pip install 'fourbeat[table]'"
            )


def sha256_of(file: Path) -> str:
    """The sha256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read(file: Path, as_text: Collection[str] = ()) -> dict[str, Values]:
    """The columns of a file by name, in their order, with blanks at both ends of texts and names taken away.

    Args:
      file: CSV with a line of names, its values between commas, semicolons, tabs or bars, as UTF-8; it may
        be compressed (.gz). Or Parquet.
      as_text: columns of a CSV file that stay texts, whatever they look like.

    Raises:
      ValueError: the file cannot be read, is of another kind or damaged, has no row, or two columns have the
        same name.
    """
    table = _arrow(file, set(as_text))
    names = [name.strip() for name in table.column_names]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"{file} has two columns with the name {name!r}. Give each a name of its own.")
    if table.num_rows == 0:
        raise ValueError(f"{file} has no rows: it names its columns, and that is all.")
    return {name: _values(name, column) for name, column in zip(names, table.columns, strict=True)}


def _arrow(file: Path, as_text: set[str]) -> Any:
    """The whole file as a table of pyarrow."""
    import pyarrow

    if file.is_dir():
        raise ValueError(f"{file} is a folder. Name one CSV or Parquet file.")
    if file.exists() and not file.is_file():  # a pipe or a device may wait for ever, or never end
        raise ValueError(f"cannot read {file}: it is no file.")
    try:
        with file.open("rb") as opened:
            start = opened.read(4)
        if start == b"PAR1":
            from pyarrow import parquet

            return parquet.ParquetFile(file).read()
        return _csv(file, as_text)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{file} is damaged: {str(error).splitlines()[0]}") from None
    except OSError as error:
        said = error.strerror or str(error).splitlines()[0]
        raise ValueError(f"cannot read {file}: {said}.") from None


def _csv(file: Path, as_text: set[str]) -> Any:
    import pyarrow
    from pyarrow import csv as arrow_csv

    with pyarrow.input_stream(str(file), compression="detect") as opened:
        data = opened.read()
    if not data.strip():
        raise ValueError(f"{file} is empty.")
    if set(data[:4096]) & _NO_TEXT:
        raise ValueError(f"{file} is no CSV or Parquet file: it begins with bytes {data[:4].hex(' ')}.")
    data = data.removeprefix(b"\xef\xbb\xbf")
    first = data[:65_536].decode("utf-8", "replace").splitlines()
    num_comments = _num_comments(first)
    header = first[num_comments]
    if "\ufffd" in header:
        _check_encoding(file, data)
    delimiter = max(_DELIMITERS, key=header.count)
    names = next(csv.reader([header], delimiter=delimiter))

    def read_with(decimal_point: str) -> Any:
        return arrow_csv.read_csv(
            io.BytesIO(data),
            read_options=arrow_csv.ReadOptions(skip_rows=num_comments),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                null_values=[*MISSING, *(f" {word}" for word in MISSING)],
                strings_can_be_null=True,
                decimal_point=decimal_point,
                column_types={name: pyarrow.string() for name in names if name.strip() in as_text},
            ),
        )

    try:
        table = read_with(".")
    except pyarrow.ArrowInvalid as error:
        _check_widths(file, data, delimiter, num_comments)
        _check_encoding(file, data)
        raise ValueError(f"cannot read {file} as CSV: {printable(str(error).splitlines()[0])}.") from None
    if any(pyarrow.types.is_binary(column.type) for column in table.columns):
        _check_encoding(file, data)
    if delimiter != "," and any(map(_has_decimal_commas, table.columns)):
        table = read_with(",")
    return table


def _num_comments(lines: Sequence[str]) -> int:
    """How many lines are above the names: they begin with #, and have not as many values as the next.

    >>> _num_comments(["# from a sensor", "time,heat", "1,2"]), _num_comments(["#time,heat", "1,2"])
    (1, 0)
    """
    for place, (line, following) in enumerate(itertools.pairwise(lines)):
        delimiter = max(_DELIMITERS, key=following.count)
        if not line.startswith("#") or line.count(delimiter) == following.count(delimiter) > 0:
            return place
    return 0


def _check_widths(file: Path, data: bytes, delimiter: str, num_comments: int) -> None:
    """Names the first line that has more or fewer values than there are columns."""
    rows = csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline=""), delimiter=delimiter)
    for _ in range(num_comments):
        next(rows)
    width, begins = len(next(rows)), rows.line_num + 1
    try:
        for row in rows:
            if row and len(row) != width:
                raise ValueError(
                    f"{file}, line {begins}: expected {width} values, got {len(row)}. Mend "
                    'the line; a value that holds the delimiter stands between two ".'
                )
            begins = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{file}, line {begins}: {error}.") from None


def _check_encoding(file: Path, data: bytes) -> None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{file}, line {line}: byte {data[error.start]:02x} is not UTF-8. Save the file as UTF-8: "
            "iconv -f latin1 -t utf-8."
        ) from None


def _has_decimal_commas(column: Any) -> bool:
    import pyarrow

    if not pyarrow.types.is_string(column.type):
        return False
    words = [word.strip() for word in column.unique().to_pylist() if word is not None]
    return bool(words) and all(map(_DECIMAL_COMMA.fullmatch, words))


def _values(name: str, column: Any) -> Values:
    """A column of pyarrow as `Values`."""
    import pyarrow
    from pyarrow import compute

    types, type_ = pyarrow.types, column.type
    if types.is_dictionary(type_):
        column = column.cast(type_.value_type)
        type_ = column.type
    if column.null_count == len(column):
        return Values(name, "nothing", numbers=np.full(len(column), np.nan))
    if types.is_boolean(type_):
        places = column.cast(pyarrow.int8()).fill_null(-1).to_numpy().astype(np.int32)
        return Values(name, "truth", places=places, words=("false", "true"))
    if types.is_string(type_) or types.is_large_string(type_):
        return _texts(name, compute.call_function("utf8_trim_whitespace", [column]))
    if types.is_integer(type_) and _largest(column) >= 2**53:  # float64 does not tell such numbers apart
        return _texts(name, column.cast(pyarrow.string()))
    if types.is_timestamp(type_):
        column, unit = column.cast(pyarrow.timestamp("us")).cast(pyarrow.int64()), _DAY_US
    elif types.is_date(type_):
        column, unit = column.cast(pyarrow.date32()).cast(pyarrow.int32()), 1.0
    elif types.is_time(type_) or types.is_duration(type_):
        column, unit = _ticks(column), 1.0
    elif types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_):
        unit = 1.0
    else:
        return Values(name, "other", numbers=np.full(len(column), np.nan))
    numbers = column.cast(pyarrow.float64(), safe=False).to_numpy().astype(np.float64) / unit
    if types.is_temporal(type_):
        is_day = types.is_timestamp(type_) or types.is_date(type_)
        return Values(name, "date" if is_day else "number", numbers=numbers)
    return Values(name, _type_of(numbers), numbers=numbers)


def _largest(column: Any) -> int:
    """The largest magnitude of whole numbers."""
    from pyarrow import compute

    ends = compute.call_function("min_max", [column]).as_py()
    return max(abs(end) for end in ends.values())


def _texts(name: str, column: Any) -> Values:
    encoded = column.combine_chunks().dictionary_encode()
    words = encoded.dictionary.to_pylist()
    places = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    kept = [place for place, word in enumerate(words) if word not in MISSING]
    new = np.full(len(words) + 1, -1, np.int32)  # the last is that of a missing value
    new[kept] = np.arange(len(kept))
    return Values(name, "text", places=new[places], words=tuple(words[place] for place in kept))


def _ticks(column: Any) -> Any:
    """Times of a day and durations as whole numbers of their unit."""
    import pyarrow

    is_short = pyarrow.types.is_time32(column.type)
    return column.cast(pyarrow.int32() if is_short else pyarrow.int64())


def _type_of(numbers: np.ndarray) -> Type:
    present = numbers[np.isfinite(numbers)]
    is_whole = len(present) > 0 and bool(np.all(present == np.floor(present)))
    return "whole" if is_whole else "number"


def check_finite(file: Path, columns: Mapping[str, Values]) -> None:
    """Raises a ValueError where a number is infinite, or too large for float32."""
    most = float(np.finfo(np.float32).max)
    for name, values in columns.items():
        if values.numbers is None:
            continue
        bad = np.flatnonzero(np.abs(values.numbers) > most)
        if len(bad):
            raise ValueError(
                f"{file}: column {name!r} is infinite, or too large for float32, in {len(bad):,} of "
                f"{len(values):,} rows, first in row {bad[0] + 1:,}: {values.numbers[bad[0]]}. Leave the "
                f"cell empty where the value is missing, or leave the column out: --drop {shlex.quote(name)}."
            )
