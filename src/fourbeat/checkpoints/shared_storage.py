"""One checkpoint on disk that several processes write together, into one folder that all of them see.

It looks like that of one process (`storage`), and every process writes its own parts of the arrays:

    step-300-save-4/
      arrays/        ocdbt.process_0/, ocdbt.process_1/, ... and an index over all of them
      digest.json    the position sum of each leaf; the sha256 of each file, by the process that wrote it

Between its stages all processes agree, so an error on one is an error on all. Process 0 makes the folder, and
renames it when every process has read its parts back: from this one moment on the checkpoint is there.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import secrets
import shutil
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fourbeat.checkpoints import folders, stored_arrays
from fourbeat.checkpoints.digest import Digest, SavedLeaf
from fourbeat.checkpoints.errors import CheckpointError, NotTogetherError
from fourbeat.checkpoints.leaves import Taken, data_dtype
from fourbeat.checkpoints.parts import Box, first_copies, is_spread, size_of, sum_of, whole
from fourbeat.checkpoints.position_sums import total
from fourbeat.checkpoints.storage import (
    ARRAYS,
    commit,
    files_in,
    flush,
    in_parts,
    is_stored,
    name_of,
    reading_back,
    refuse_twins,
    sha256_of_file,
)
from fourbeat.checkpoints.together import all_do, first_does
from fourbeat.distributed import num_processes, process_index

TOPIC = "saving"
_BEACON = "begun-by-process-0"


class _Own(NamedTuple):
    """What this process knows of a leaf: the parts that it has written, and their position sum."""

    leaf: SavedLeaf
    boxes: tuple[Box, ...]
    sum: int
    is_spread: bool

    def __str__(self) -> str:
        where = "over all processes" if self.is_spread else "on each process"
        return f"tree{self.leaf.path} {self.leaf.kind} {where}"


class Written(NamedTuple):
    """What this process has written: its parts of the leaves, and the sha256 of its files."""

    own: tuple[_Own, ...]
    files: dict[str, str]

    @property
    def told(self) -> dict[str, Any]:
        """What the other processes hear of it."""
        names = hashlib.sha256("\n".join(map(str, self.own)).encode()).hexdigest()
        return {"names": names, "sums": [each.sum for each in self.own], "files": self.files}


def write(
    directory: Path,
    step: int,
    scores: dict[str, float],
    taken: list[Taken],
    held: dict[str, str] | None = None,
    saved_at_s: float | None = None,
) -> None:
    """Writes a checkpoint into `directory`. Every process calls it, with the same leaves.

    Args:
      directory: an absolute path that all processes see.
      step: the step it is of.
      scores: its scores, by name.
      taken: the leaves. The list is emptied. Those that do not lie over several processes are equal on all.
      held: what plain Python objects inside the models hold.
      saved_at_s: when the values were taken, in seconds since 1970.

    Raises:
      CheckpointError: it failed, on this process or on another. Nothing of it is left then.
    """
    begun = all_do(TOPIC, lambda: _begun(directory, step), lambda each: each)[1]
    folder = directory / begun[0]["name"]
    unfinished = folder.with_name(folder.name + folders.SAVING)
    try:
        check_same_save(begun)
        all_do(TOPIC, lambda: check_seen((unfinished / _BEACON).read_text, begun))
        written, told = all_do(TOPIC, lambda: write_own(unfinished, taken), lambda each: each.told)
        leaves = agreed_leaves(written.own, told)
        digest = Digest(step, scores, saved_at_s, leaves, {}, held, num_processes())
        files = {name: sha256 for each in told for name, sha256 in each["files"].items()}
        first_does(TOPIC, lambda: _merge(unfinished, leaves))
        all_do(TOPIC, lambda: check_own(unfinished, written.own))
        first_does(TOPIC, lambda: _finish(folder, unfinished, digest, files))
    except BaseException:
        taken.clear()
        if process_index() == 0:
            shutil.rmtree(unfinished, ignore_errors=True)  # on a full disk its space is wanted most
        raise


def _begun(directory: Path, step: int) -> dict[str, Any]:
    """What this process is about to save; process 0 makes the folder."""
    begun = {"directory": str(directory), "step": step, "host": socket.gethostname()}
    if process_index() != 0:
        return begun
    folders.remove_leftovers(directory)
    folder = folders.next_folder(directory, step)
    unfinished = folder.with_name(folder.name + folders.SAVING)
    (unfinished / ARRAYS).mkdir(parents=True)
    token = new_token()
    (unfinished / _BEACON).write_text(token)
    return {**begun, "name": folder.name, "token": token}


def check_same_save(begun: Sequence[dict[str, Any]]) -> None:
    """Raises where processes save another step, or into another directory."""
    first = begun[0]
    for number, each in enumerate(begun):
        if (each["directory"], each["step"]) != (first["directory"], first["step"]):
            raise NotTogetherError(
                f"process 0 saves step {first['step']} in {first['directory']}, and process {number} saves "
                f"step {each['step']} in {each['directory']}. Let all make the same saves in one order."
            )


def new_token() -> str:
    """What process 0 leaves for the others to see."""
    return secrets.token_hex(8)


def check_seen(read_token: Callable[[], str], begun: Sequence[dict[str, Any]]) -> None:
    """Raises where this process does not see what process 0 has begun."""
    first, seen = begun[0], ""
    with contextlib.suppress(OSError):
        seen = read_token()
    if seen != first["token"]:
        raise NotTogetherError(
            f"process {process_index()}, on {begun[process_index()]['host']}, does not see in "
            f"{first['directory']} the folder that process 0 has made there, on {first['host']}. Every "
            "process writes its part of a checkpoint: give a directory on a file system that all share."
        )


def write_own(unfinished: Path, taken: list[Taken], *, is_alone: bool = False) -> Written:
    """Writes this process's parts. Empties `taken`; what it returns holds no array.

    Args:
      unfinished: the folder of the checkpoint, in which `arrays/` is there.
      taken: the leaves.
      is_alone: whether no other process writes into this folder.
    """
    values = [leaf.value if is_spread(leaf.value) else np.asarray(leaf.value) for leaf in taken]
    paths = [jax.tree_util.keystr(leaf.path) for leaf in taken]
    refuse_twins(paths)
    stored = {name_of(i): value for i, value in enumerate(values) if is_stored(value.shape)}
    with ThreadPoolExecutor() as pool:
        parts = pool.map(_own_parts, values)
        if stored:
            stored_arrays.save_together(unfinished / ARRAYS, stored, is_alone=is_alone)
        own = tuple(
            _Own(
                SavedLeaf(path, leaf.kind, value.shape, leaf.key_impl, None),
                *its_parts,
                is_spread(value),
            )
            for path, leaf, value, its_parts in zip(paths, taken, values, parts, strict=True)
        )
    taken.clear()
    return Written(own, _own_files(unfinished))


def _own_parts(value: jax.Array | np.ndarray) -> tuple[tuple[Box, ...], int]:
    parts = first_copies(value) if isinstance(value, jax.Array) else {whole(value.shape): value}
    return tuple(parts), sum_of(parts, value.shape)


def _own_files(unfinished: Path) -> dict[str, str]:
    """The sha256 of the files that only this process writes, which are on the disk then."""
    mine = unfinished / ARRAYS / f"ocdbt.process_{process_index()}"
    if not mine.is_dir():  # it had nothing to write
        return {}
    flush(mine)
    return {f"{mine.relative_to(unfinished)}/{name}": sha256 for name, sha256 in files_in(mine).items()}


def agreed_leaves(own: Sequence[_Own], told: Sequence[dict[str, Any]]) -> tuple[SavedLeaf, ...]:
    """The leaves with the sums that all processes tell.

    Raises:
      CheckpointError: the processes do not save the same tree, or differ in a leaf that each has for itself.
    """
    if len({each["names"] for each in told}) > 1:
        trees = all_do(TOPIC, lambda: [str(each) for each in own], lambda lines: lines)[1]
        raise NotTogetherError(_other_trees(trees))
    leaves = []
    for each, sums in zip(own, zip(*(each["sums"] for each in told), strict=True), strict=True):
        other = next((number for number, sum_ in enumerate(sums) if sum_ != sums[0]), None)
        if not each.is_spread and other is not None:
            raise NotTogetherError(
                f"tree{each.leaf.path} has one value on process 0 and another on process {other}. Save what "
                "is equal on all: an array over a mesh of all devices, or what fb.distributed.gather gives."
            )
        agreed = total(sums) if each.is_spread else sums[0]
        leaves.append(dataclasses.replace(each.leaf, position_sum=f"{agreed:016x}"))
    return tuple(leaves)


def _other_trees(trees: Sequence[list[str]]) -> str:
    """Names the first place at which the tree of a process is not that of process 0."""
    number = next(number for number, lines in enumerate(trees) if lines != trees[0])
    pairs = itertools.zip_longest(trees[0], trees[number], fillvalue="nothing more")
    first, other = next((first, other) for first, other in pairs if first != other)
    return (
        f"process 0 saves {first}, and process {number} saves {other}. Let every process save the same tree, "
        "placed in the same way."
    )


def _merge(unfinished: Path, leaves: Sequence[SavedLeaf]) -> None:
    if any(is_stored(leaf.data_shape) for leaf in leaves):
        stored_arrays.merge(unfinished / ARRAYS)


def files_of_all(folder: Path) -> dict[str, str]:
    """The sha256 of the files that are the same whichever process writes them."""
    return {
        f"{ARRAYS}/{path.name}": sha256_of_file(path)
        for path in (folder / ARRAYS).iterdir()
        if path.is_file()
    }


def check_own(unfinished: Path, own: Sequence[_Own]) -> None:
    """Reads back, a part at a time, what this process has written."""
    mine = [
        each for each in own if is_stored(each.leaf.data_shape) and (each.is_spread or process_index() == 0)
    ]
    names = {each.leaf.path: name_of(i) for i, each in enumerate(own)}
    with reading_back():
        for part in in_parts(
            mine, lambda each: sum(map(size_of, each.boxes)) * data_dtype(each.leaf.kind).itemsize
        ):
            wanted = {
                names[each.leaf.path]: (data_dtype(each.leaf.kind), each.leaf.data_shape, each.boxes)
                for each in part
            }
            found = stored_arrays.load_parts(unfinished / ARRAYS, wanted)
            for each in part:
                if sum_of(found[names[each.leaf.path]], each.leaf.data_shape) != each.sum:
                    raise CheckpointError(
                        f"tree{each.leaf.path} is not as it was saved: its position sum differs"
                    )


def _finish(folder: Path, unfinished: Path, digest: Digest, files: dict[str, str]) -> None:
    """Makes it a checkpoint: every byte is on the disk, and every process has read its parts back."""
    (unfinished / _BEACON).unlink()
    flush(unfinished)
    found = files_in(unfinished, files)
    if lost := sorted(files.keys() - found.keys()):
        raise CheckpointError(f"{lost[0]}, which another process has written, is not there")
    commit(folder, unfinished, dataclasses.replace(digest, files=found))
