"""The outputs of a prediction in files of NumPy, written as they come: data may be larger than memory."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from fourbeat.distributed import process_index
from fourbeat.models.names import names_of
from fourbeat.trees.paths import plain_path
from fourbeat.types import Object, Tree

_WRITING = ".writing"  # the end of the name until all is there
_ENDING = ".npy"


def written(
    parts: Iterator[tuple[list[np.ndarray], Any]], out: str | os.PathLike[str], places: np.ndarray | None
) -> Tree:
    """Writes the entries of all batches, one after the other, in the memory of one batch.

    Args:
      parts: for each batch its outputs on the host, and their structure.
      out: a file that ends in ".npy" for a single array; for several a folder, which is new.
      places: where each example's entry lies among those of the batches; None where they are in order.

    Returns:
      The outputs as they are on the disk, read when they are used.

    Raises:
      ValueError: `out` does not fit the outputs, or lies there; an output has a dtype that NumPy's files do
        not have, or another shape in another batch.
    """
    path = Path(out)
    entries, form = next(parts)
    names = _names(form, path)
    for name, entry in zip(names, entries, strict=True):
        _check_dtype(name, entry)
    unfinished = path.with_name(path.name + _WRITING)
    files = [unfinished if name == "" else unfinished / f"{name}{_ENDING}" for name in names]
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(unfinished)
    if names != [""]:
        unfinished.mkdir()
    try:
        with contextlib.ExitStack() as opened:
            columns = [
                opened.enter_context(contextlib.closing(_Column(file, entry, places)))
                for file, entry in zip(files, entries, strict=True)
            ]
            while True:
                for column, entry in zip(columns, entries, strict=True):
                    column.append(entry)
                entries, _ = next(parts, (None, None))
                if entries is None:
                    break
            for column in columns:
                column.finish()
        os.replace(unfinished, path)
    except BaseException:
        _remove(unfinished)
        raise
    return _read(path, names, form)


def read_back(out: str | os.PathLike[str], form: Object) -> Tree:
    """The outputs that another process has written, read when they are used.

    Raises:
      FileNotFoundError: `out` lies on no file system that the processes share.
    """
    path = Path(out)
    if not path.exists():
        raise FileNotFoundError(
            f"process 0 has written the outputs to {path}, and process {process_index()} does not find them. "
            "Give out= a path on a file system that all processes share."
        )
    return _read(path, _file_names(form), form)


def _read(path: Path, names: list[str], form: Object) -> Tree:
    files = [path if name == "" else path / f"{name}{_ENDING}" for name in names]
    return form.unflatten([np.load(file, mmap_mode="r") for file in files])


def check_alike(first: np.ndarray, other: np.ndarray) -> None:
    """Raises a ValueError where the entries of two batches do not stand in one array."""
    if other.shape[1:] != first.shape[1:]:
        raise ValueError(
            f"predict returned arrays of shape {first.shape} for one batch and {other.shape} for "
            "another. Return what does not depend on the length of a batch, or pad all to one length."
        )


class _Column:
    """A file of one output: its entries are appended, or put in their places."""

    def __init__(self, file: Path, first: np.ndarray, places: np.ndarray | None):
        self._first, self._num = first, 0
        self._file: BinaryIO = file.open("w+b")
        self._targets = None if places is None else np.argsort(places)
        self._write_header(0 if places is None else len(places))
        self._begin = self._file.tell()
        if places is not None:
            self._file.truncate(self._begin + len(places) * self._bytes_of_one)

    @property
    def _bytes_of_one(self) -> int:
        return self._first.dtype.itemsize * int(np.prod(self._first.shape[1:]))

    def append(self, entries: np.ndarray) -> None:
        check_alike(self._first, entries)
        entries = np.array(entries, dtype=self._first.dtype, order="C", copy=None)
        if self._targets is None:
            self._file.write(entries.tobytes())
        else:
            for target, entry in zip(self._targets[self._num :], entries, strict=False):
                self._file.seek(self._begin + int(target) * self._bytes_of_one)
                self._file.write(entry.tobytes())
        self._num += len(entries)

    def finish(self) -> None:
        self._write_header(self._num)
        assert self._file.tell() == self._begin  # NumPy leaves room for the largest number of entries
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _write_header(self, num: int) -> None:
        self._file.seek(0)
        shape = (num, *self._first.shape[1:])
        header = {"descr": self._first.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)


def _names(form: Object, path: Path) -> list[str]:
    """The name of each output's file within the folder; "" for a single array, which needs none."""
    is_single = jax.tree_util.treedef_is_leaf(form)
    if is_single != (path.suffix == _ENDING):
        is_there = f"out is {os.fspath(path)!r}, and predict returns "
        raise ValueError(
            f"{is_there}a single array. Give a file that ends in {_ENDING}."
            if is_single
            else f"{is_there}{form.num_leaves} arrays. Give a folder for them, without {_ENDING}."
        )
    if is_single:
        if path.is_dir():
            raise ValueError(f"{path} is a folder. Give another file for the outputs.")
        return _file_names(form)
    if os.path.lexists(path):
        raise ValueError(f"{path} is there already. Give a new folder for the outputs.")
    return _file_names(form)


def _file_names(form: Object) -> list[str]:
    if jax.tree_util.treedef_is_leaf(form):
        return [""]
    found = jax.tree_util.tree_flatten_with_path(form.unflatten(range(form.num_leaves)))[0]
    return [name.replace("/", ".") for name in names_of([plain_path(at) for at, _ in found], "outputs")]


def _check_dtype(name: str, entry: np.ndarray) -> None:
    if entry.dtype.isbuiltin != 1:
        what = f"outputs {name}" if name else "outputs"
        raise ValueError(
            f"predict returned {what} of {entry.dtype}, which NumPy's files have no name for. Return "
            "outputs.astype('float32')."
        )


def _remove(unfinished: Path) -> None:
    if unfinished.is_dir() and not unfinished.is_symlink():
        shutil.rmtree(unfinished)
    else:
        unfinished.unlink(missing_ok=True)
