"""Restoring: one checkpoint into the tree that is asked for, or only what fits of it."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fourbeat.checkpoints import storage
from fourbeat.checkpoints.digest import Digest
from fourbeat.checkpoints.errors import CheckpointError
from fourbeat.checkpoints.folders import Entry
from fourbeat.checkpoints.leaves import put_back, put_back_parts
from fourbeat.checkpoints.mismatch import Mismatch, compare
from fourbeat.checkpoints.parts import is_spread, whole
from fourbeat.checkpoints.shared_reading import Parts, read_parts
from fourbeat.checkpoints.together import all_do
from fourbeat.distributed import num_processes
from fourbeat.types import Object, Tree

RESTORING = "restoring"  # what processes agree under


def restore_from(directory: Path | str, entry: Entry, like: Tree, *, partial: bool) -> Tree:
    """The tree of one checkpoint, as `Checkpoints.restore` gives it.

    Raises:
      CheckpointError: the checkpoint is damaged; the text says how.
      ValueError: the trees differ.
    """
    plan, _ = all_do(RESTORING, lambda: _plan(directory, entry, like, partial=partial))
    leaves, structure = jax.tree.flatten(like)
    arrays = _read(entry.folder, plan.digest, leaves, plan.sources)
    uses = Counter(i for i in plan.sources if i is not None)
    restored = [
        _own_buffer(leaf) if i is None else _placed(_taken(arrays, i, uses), leaf, plan.digest, i)
        for leaf, i in zip(leaves, plan.sources, strict=True)
    ]
    tree = jax.tree.unflatten(structure, restored)
    return (tree, plan.mismatch) if partial else tree


class _Plan(NamedTuple):
    """Which saved leaf takes the place of each leaf of `like`, and where the two trees differ."""

    digest: Digest
    sources: list[int | None]
    mismatch: Mismatch


def _plan(directory: Path | str, entry: Entry, like: Tree, *, partial: bool) -> _Plan:
    digest = storage.read_digest(entry.folder)
    if digest.step != entry.step:
        raise CheckpointError(f"its digest is of step {digest.step}: it was renamed, or mixed up")
    sources, mismatch = compare(digest, like, partial=partial)
    where = f"step {entry.step} of {directory}"
    if partial:
        _check_rest_is_there(where, like, sources)
    elif mismatch:
        raise ValueError(
            f"cannot restore {where}: it is not of the same tree as `like`.\n{mismatch}\n"
            "Build `like` as it was when saving, or take what fits: restore(like, partial=True)."
        )
    if partial and sources and all(i is None for i in sources):
        raise ValueError(f"nothing in {where} fits `like`.\n{mismatch}")
    return _Plan(digest, sources, mismatch)


def _read(
    folder: Path, digest: Digest, leaves: list[Any], sources: list[int | None]
) -> dict[int, np.ndarray] | dict[int, Parts]:
    """What this process needs of the saved leaves: whole arrays, or parts where others have the rest."""
    if digest.processes == 1 and num_processes() == 1:
        return storage.read_arrays(folder, digest, {i for i in sources if i is not None})
    likes = defaultdict(list)
    for leaf, i in zip(leaves, sources, strict=True):
        if i is not None:
            likes[i].append(leaf)
    return read_parts(RESTORING, folder, digest, likes)


def _check_rest_is_there(where: str, like: Tree, sources: list[int | None]) -> None:
    found = jax.tree_util.tree_flatten_with_path(like)[0]
    for (path, leaf), source in zip(found, sources, strict=True):
        gone = isinstance(leaf, jax.ShapeDtypeStruct) or (isinstance(leaf, jax.Array) and leaf.is_deleted())
        if source is None and gone:
            raise ValueError(
                f"cannot take a part of {where}: nothing saved fits tree{jax.tree_util.keystr(path)}, and "
                "`like` has no values there. Give a tree of living arrays."
            )


def _own_buffer(leaf: Object) -> Any:
    return leaf.copy() if isinstance(leaf, jax.Array | np.ndarray) else leaf


def _taken(arrays: dict[int, Any], i: int, uses: Counter[int]) -> np.ndarray | Parts:
    """An array, or its parts, that is kept as long as another leaf takes it too."""
    uses[i] -= 1
    return arrays[i] if uses[i] else arrays.pop(i)


def _placed(value: np.ndarray | Parts, like: Tree, digest: Digest, i: int) -> Any:
    leaf = digest.leaves[i]
    try:
        if isinstance(value, dict) and is_spread(like):
            return put_back_parts(value, leaf.data_shape, like, leaf.key_impl)
        return put_back(
            value[whole(leaf.data_shape)] if isinstance(value, dict) else value, like, leaf.key_impl
        )
    except ValueError as error:
        raise ValueError(f"cannot restore tree{leaf.path}: {error}") from None
