"""Examples out of Parquet files."""

import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from fourbeat.data.examples import Examples
from fourbeat.data.readers.row_groups import RowGroups
from fourbeat.data.whole_numbers import whole_number

AnyPath: TypeAlias = str | os.PathLike[str]


def parquet(
    path: AnyPath | Sequence[AnyPath],
    columns: Iterable[str] | None = None,
    *,
    decode: Callable[[Any], Mapping[str, Any]] | None = None,
    collate: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]] | None = None,
    window: int = 8_192,
) -> Examples:
    """The rows of Parquet files, as `Examples` that are read by row group.

    Numbers keep their types, lists of one length become axes, strings are in `batch.texts`. The row groups of
    the window are kept, decoded, in memory. A shuffle visits the row groups in a drawn order and mixes those
    of a window; each row comes once an epoch, at a step that depends on seed and files alone. Needs
    pyarrow: `pip install 'fourbeat[parquet]'`.

    Args:
      path: of a file; of a folder of `*.parquet` files, in the order of their names, with those in its
        folders; or a list of files.
      columns: which ones to read; by default all.
      decode: as `Examples` takes it. An example is a dict of its row.
      collate: as `Examples` takes it.
      window: how many rows a shuffle mixes at a time, in whole row groups and at least two of them. More mix
        better and take more memory.

    Raises:
      ImportError: pyarrow is not installed.
      FileNotFoundError: there is no such file, or none in the folder.
      ValueError: a file is not Parquet, has other columns than the first, or lies in a folder named
        `column=value`; or `window` is below 1.

    >>> import pyarrow, pyarrow.parquet, tempfile
    >>> file = tempfile.NamedTemporaryFile(suffix=".parquet")
    >>> rows = {"tokens": [[1, 2], [3, 4], [5, 6]], "label": [0, 1, 0], "text": ["a", "b", "c"]}
    >>> pyarrow.parquet.write_table(pyarrow.table(rows), file.name, row_group_size=2)
    >>> batch = parquet(file.name).batches(2)[0]
    >>> batch["tokens"].tolist(), batch["label"].tolist(), batch.texts["text"].tolist()
    ([[1, 2], [3, 4]], [0, 1], ['a', 'b'])
    """
    paths, name = parquet_paths(path)
    if whole_number("window", window) < 1:
        raise ValueError(f"window is {window}; expected at least 1 row.")
    return Examples(RowGroups(paths, columns, window, name), decode, collate=collate)


def parquet_paths(path: AnyPath | Sequence[AnyPath]) -> tuple[list[Path], str]:
    """The files that `parquet` reads, and how errors name them.

    Raises:
      ImportError: pyarrow is not installed.
      FileNotFoundError, ValueError: as `parquet` does for its path.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise ImportError("fourbeat.data.parquet needs pyarrow: pip install 'fourbeat[parquet]'")
    if not isinstance(path, str | os.PathLike):
        paths = [Path(one) for one in path]
        if not paths:
            raise FileNotFoundError("no path of a Parquet file is given.")
        return paths, f"the Parquet files {paths[0].name}, ..." if len(paths) > 1 else _name(paths[0])
    whole = Path(path)
    if not whole.is_dir():
        return [whole], _name(whole)
    paths = sorted(
        file
        for file in whole.rglob("*.parquet")
        if not any(part.startswith((".", "_")) for part in file.relative_to(whole).parts)
    )
    if not paths:
        raise FileNotFoundError(f"{whole} holds no file whose name ends in .parquet.")
    for file in paths:
        parts = [part for part in file.relative_to(whole).parts[:-1] if "=" in part]
        if parts:
            raise ValueError(
                f"{whole} is partitioned: the value of {parts[0]!r} is a folder's name and no column of the "
                "files. Write it into them, or leave it out and pass the paths of the files: "
                "sorted(folder.rglob('*.parquet'))."
            )
    return paths, f"the Parquet files of {whole.name}"


def _name(path: Path) -> str:
    return f"the Parquet file {path.name}"
