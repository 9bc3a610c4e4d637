"""One checkpoint on disk: Orbax holds the arrays, a digest beside them says what they must be.

    step-300-save-4/
      arrays/        written and read by Orbax, one entry a leaf: leaf_0, leaf_1, ...
      digest.json    step, scores, time; the path, dtype, shape and sha256 of each leaf; the sha256 of each
                     file

It is written under another name, flushed to the disk, read back, and only then renamed.
"""

import contextlib
import hashlib
import math
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np

from fourbeat.checkpoints import stored_arrays
from fourbeat.checkpoints.digest import Digest, SavedLeaf, sha256_of
from fourbeat.checkpoints.errors import CheckpointError
from fourbeat.checkpoints.folders import SAVING
from fourbeat.checkpoints.leaves import Taken, data_dtype, key_impl_of, stored_form
from fourbeat.distributed import num_processes, process_index

ARRAYS = "arrays"
DIGEST = "digest.json"
_Piece = TypeVar("_Piece")
PART_BYTES = 2**25  # read back together at least: a call of Orbax takes some 15 ms beside the reading


def write(
    folder: Path,
    step: int,
    scores: dict[str, float],
    taken: list[Taken],
    held: dict[str, str] | None = None,
    saved_at_s: float | None = None,
) -> None:
    """Writes a checkpoint at `folder`, which appears only when it is whole.

    Args:
      folder: an absolute path at which nothing lies.
      step: the step it is of.
      scores: its scores, by name.
      taken: the leaves. The list is emptied: nothing here keeps them alive.
      held: what plain Python objects inside the models hold.
      saved_at_s: when the values were taken, in seconds since 1970.
    """
    unfinished = folder.with_name(folder.name + SAVING)
    unfinished.mkdir(parents=True)
    try:
        leaves = _write_arrays(unfinished / ARRAYS, taken)
        flush(unfinished)
        with ThreadPoolExecutor(1) as pool:
            files = pool.submit(files_in, unfinished)
            _check_written(unfinished, leaves)
            digest = Digest(step, scores, saved_at_s, leaves, files.result(), held)
        commit(folder, unfinished, digest)
    except BaseException:
        taken.clear()
        shutil.rmtree(unfinished, ignore_errors=True)  # on a full disk its space is wanted most
        raise


def commit(folder: Path, unfinished: Path, digest: Digest) -> None:
    """Makes a checkpoint of what was written at `unfinished`: from then on it is there."""
    _write_digest(unfinished, digest)
    unfinished.rename(folder)
    flush_one(folder.parent)


def read_digest(folder: Path) -> Digest:
    """The digest of the checkpoint at `folder`.

    Raises:
      CheckpointError: the checkpoint is damaged; the text says how.
    """
    if folder.is_symlink():
        raise CheckpointError(
            f"it is a link to {os.readlink(folder)}, which is not followed: a link could lead anywhere. "
            "Put the folder itself, or a copy, in its place"
        )
    path = folder / DIGEST
    if not path.is_file() or path.is_symlink():
        raise CheckpointError(f"{DIGEST} is missing, or no plain file")
    try:
        return Digest.decode(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{DIGEST} cannot be read: {error}") from None


def read_arrays(folder: Path, digest: Digest, wanted: Collection[int]) -> dict[int, np.ndarray]:
    """The arrays of some leaves. Orbax reads only files that are as they were written.

    Args:
      folder: the checkpoint.
      digest: its digest.
      wanted: positions in `digest.leaves`.

    Raises:
      CheckpointError: the checkpoint is damaged; the text says how.
    """
    check_files(folder, digest)
    return _read_checked(folder, digest.leaves, wanted)


def _write_arrays(folder: Path, taken: list[Taken]) -> tuple[SavedLeaf, ...]:
    """Empties `taken`. What it returns holds no array: reading back takes no more memory than writing."""
    values = [_in_fitting_form(value) for _, _, value, _ in taken]
    stored = {name_of(i): value for i, value in enumerate(values) if is_stored(value.shape)}
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(lambda value: sha256_of(np.asarray(value)), values)
        if stored:
            stored_arrays.save(folder, stored)
        leaves = tuple(
            SavedLeaf(jax.tree_util.keystr(path), kind, value.shape, key_impl_of(original), sha256)
            for (path, kind, original, _), value, sha256 in zip(taken, values, hashes, strict=True)
        )
    taken.clear()
    refuse_twins([leaf.path for leaf in leaves])
    return leaves


def _in_fitting_form(value: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """The cheaper form: Orbax copies large NumPy arrays once more; any jax array costs it 0.5 ms more."""
    form = stored_form(value)
    return np.asarray(form) if form.nbytes < 2**16 else form


def _write_digest(folder: Path, digest: Digest) -> None:
    with _named(folder / DIGEST):
        (folder / DIGEST).write_bytes(digest.encode())
    flush_one(folder / DIGEST)
    flush_one(folder)
    with reading_back():
        if read_digest(folder).encode() != digest.encode():
            raise CheckpointError(f"{DIGEST} is not as it was written")


def _check_written(folder: Path, leaves: Sequence[SavedLeaf]) -> None:
    """Reads the arrays as a restore would. What cannot be restored must not take an older one's place.

    It reads a part at a time: all at once would take more memory than the copies that were written.
    """
    with reading_back():
        for part in in_parts(range(len(leaves)), lambda i: _size_bytes(leaves[i])):
            _read_checked(folder, leaves, part)


def in_parts(pieces: Sequence[_Piece], size_bytes: Callable[[_Piece], int]) -> Iterator[list[_Piece]]:
    """The pieces in their order, so many together that there are about four parts; one at least."""
    limit = max(sum(map(size_bytes, pieces)) // 4, PART_BYTES)
    part, size = [], 0
    for piece in pieces:
        if part and size + size_bytes(piece) > limit:
            yield part
            part, size = [], 0
        part.append(piece)
        size += size_bytes(piece)
    yield part


def _size_bytes(leaf: SavedLeaf) -> int:
    return data_dtype(leaf.kind).itemsize * math.prod(leaf.data_shape)


@contextlib.contextmanager
def reading_back() -> Iterator[None]:
    """Says of what fails inside that it was read back after writing."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"what was written does not read back: {error}") from error


def _read_checked(
    folder: Path, leaves: Sequence[SavedLeaf], wanted: Collection[int]
) -> dict[int, np.ndarray]:
    """The arrays of some leaves, each compared with its sha256."""
    found = _load(folder / ARRAYS, leaves, set(wanted))
    for i in wanted:
        leaf = leaves[i]
        if not is_stored(leaf.data_shape):
            found[i] = np.zeros(leaf.data_shape, data_dtype(leaf.kind))
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(sha256_of, [found[i] for i in wanted])
    for i, sha256 in zip(wanted, hashes, strict=True):
        leaf = leaves[i]
        if found[i].dtype != data_dtype(leaf.kind) or sha256 != leaf.sha256:
            raise CheckpointError(f"tree{leaf.path} is not as it was saved: its sha256 differs")
    return found


def _load(folder: Path, leaves: Sequence[SavedLeaf], wanted: set[int]) -> dict[int, np.ndarray]:
    stored = [i for i, leaf in enumerate(leaves) if is_stored(leaf.data_shape)]
    if not wanted.intersection(stored):
        return {}
    like = {name_of(i): _empty(leaves[i]) if i in wanted else None for i in stored}
    loaded = stored_arrays.load(folder, like)
    return {i: loaded[name_of(i)] for i in stored if i in wanted}


def refuse_twins(paths: Sequence[str]) -> None:
    """Raises a ValueError where two leaves have the same path."""
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise ValueError(f"two leaves have the path tree{path}. Give their keys another text.")
        seen.add(path)


def name_of(i: int) -> str:
    """The name of a leaf's array, by its position in the digest."""
    return f"leaf_{i}"


def is_stored(shape: tuple[int, ...]) -> bool:
    """Whether Orbax stores an array of this shape."""
    return 0 not in shape  # Orbax refuses arrays of size zero


def _empty(leaf: SavedLeaf) -> np.ndarray:
    """An array of the right shape and dtype that takes no memory."""
    return np.broadcast_to(np.zeros((), data_dtype(leaf.kind)), leaf.data_shape)


def check_files(folder: Path, digest: Digest) -> None:
    """Compares what lies in `folder` with what the digest lists. No path of the digest is opened.

    Of several processes that call it, each reads its share of the files.
    """
    mine = set(sorted(digest.files)[process_index() :: num_processes()])
    try:
        found = files_in(folder, {name: sha256 for name, sha256 in digest.files.items() if name not in mine})
    except OSError as error:
        raise CheckpointError(f"its files cannot be read: {error}") from None
    for name in sorted(found.keys() | digest.files.keys()):
        if name not in found:
            raise CheckpointError(f"{name} is missing")
        if name not in digest.files:
            raise CheckpointError(f"{name} does not belong to it")
        if found[name] != digest.files[name]:
            raise CheckpointError(f"{name} is not as it was written: its sha256 differs")


def files_in(folder: Path, known: Mapping[str, str] = {}) -> dict[str, str]:
    """The sha256 of every file in `folder` but the digest. What is known already is not read again."""
    found = {}
    for root, names, files in os.walk(folder):
        for path in (Path(root, name) for name in (*names, *files)):
            mode, name = path.lstat().st_mode, str(path.relative_to(folder))
            if stat.S_ISREG(mode) and name in known:
                found[name] = known[name]
            elif stat.S_ISREG(mode) and name != DIGEST:
                found[name] = sha256_of_file(path)
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a link could lead out of the checkpoint
                raise CheckpointError(f"{name} is no plain file, but a link or a device")
    return found


def sha256_of_file(path: Path) -> str:
    """The sha256 of a file, read a piece at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(folder: Path) -> None:
    """Waits until every byte under `folder` is on the disk: a power cut must not undo a checkpoint."""
    for root, _, files in os.walk(folder):
        for name in files:
            flush_one(Path(root, name))
        flush_one(Path(root))


def flush_one(path: Path) -> None:
    """Waits until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with _named(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error of the system that comes from an open file does not say which file it is."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
