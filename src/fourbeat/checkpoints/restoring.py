"""Restoring: one checkpoint into the tree that is asked for, or only what fits of it."""

from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fourbeat.checkpoints import storage
from fourbeat.checkpoints.digest import Digest
from fourbeat.checkpoints.errors import CheckpointError
from fourbeat.checkpoints.folders import Entry
from fourbeat.checkpoints.leaves import put_back
from fourbeat.checkpoints.mismatch import compare
from fourbeat.types import Object, Tree


def restore_from(directory: Path, entry: Entry, like: Tree, *, partial: bool) -> Tree:
    """The tree of one checkpoint, as `Checkpoints.restore` gives it.

    Raises:
      CheckpointError: the checkpoint is damaged; the text says how.
      ValueError: the trees differ.
    """
    digest = storage.read_digest(entry.folder)
    if digest.step != entry.step:
        raise CheckpointError(f"its digest is of step {digest.step}: it was renamed, or mixed up")
    sources, mismatch = compare(digest, like, partial=partial)
    leaves, structure = jax.tree.flatten(like)
    where = f"step {entry.step} of {directory}"
    if partial:
        _check_rest_is_there(where, like, sources)
    elif mismatch:
        raise ValueError(
            f"cannot restore {where}: it is not of the same tree as `like`.\n{mismatch}\n"
            "Build `like` as it was when saving, or take what fits: restore(like, partial=True)."
        )
    fitting = [i for i in sources if i is not None]
    if partial and leaves and not fitting:
        raise ValueError(f"nothing in {where} fits `like`.\n{mismatch}")
    arrays = storage.read_arrays(entry.folder, digest, set(fitting))
    uses = Counter(fitting)
    restored = [
        _own_buffer(leaf) if i is None else _placed(_taken(arrays, i, uses), leaf, digest, i)
        for leaf, i in zip(leaves, sources, strict=True)
    ]
    tree = jax.tree.unflatten(structure, restored)
    return (tree, mismatch) if partial else tree


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


def _taken(arrays: dict[int, np.ndarray], i: int, uses: Counter[int]) -> np.ndarray:
    """An array that is kept as long as another leaf takes it too."""
    uses[i] -= 1
    return arrays[i] if uses[i] else arrays.pop(i)


def _placed(value: np.ndarray, like: Tree, digest: Digest, i: int) -> Any:
    try:
        return put_back(value, like, digest.leaves[i].key_impl)
    except ValueError as error:
        raise ValueError(f"cannot restore tree{digest.leaves[i].path}: {error}") from None
