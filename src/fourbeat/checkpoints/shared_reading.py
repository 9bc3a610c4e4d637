"""Reads a checkpoint that several processes wrote or want: each reads what its own devices hold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fourbeat.checkpoints import stored_arrays
from fourbeat.checkpoints.digest import Digest, SavedLeaf, sha256_of
from fourbeat.checkpoints.errors import CheckpointError
from fourbeat.checkpoints.leaves import data_dtype
from fourbeat.checkpoints.parts import Box, Share, is_spread, over_data, share_of, sum_of, whole
from fourbeat.checkpoints.position_sums import total
from fourbeat.checkpoints.storage import ARRAYS, check_files, is_stored, name_of
from fourbeat.checkpoints.together import all_do
from fourbeat.types import Tree

Parts = dict[Box, np.ndarray]


def read_parts(
    topic: str, folder: Path, digest: Digest, uses: Mapping[int, Sequence[Tree]]
) -> dict[int, Parts]:
    """The parts of some leaves that this process needs, compared with what was saved. Every process calls it.

    All processes together read each file once to compare it with its sha256. What one process wrote has a
    digest of the whole leaf: then each process reads it whole.

    Args:
      topic: what the processes agree under.
      folder: the checkpoint.
      digest: its digest.
      uses: by position in `digest.leaves`, the leaves that take its place: their shardings tell the parts.

    Raises:
      CheckpointError: the checkpoint is damaged; the text says how.
    """
    all_do(topic, lambda: check_files(folder, digest))
    shares = {i: _share(digest.leaves[i], likes) for i, likes in uses.items()}
    found, told = all_do(
        topic, lambda: _load(folder, digest, shares), lambda parts: _counted(digest, shares, parts)
    )
    for i in told[0]:
        leaf, sums = digest.leaves[int(i)], [sums[i] for sums in told]
        if total(sums) != total([shares[int(i)].times * int(str(leaf.position_sum), 16)]):
            raise CheckpointError(_differs(leaf, "position sum"))
    return found


def _share(leaf: SavedLeaf, likes: Sequence[Tree]) -> Share:
    """What this process reads of a leaf."""
    shape = leaf.data_shape
    if leaf.position_sum is None or not all(map(is_spread, likes)):
        return Share((whole(shape),), frozenset(), 0)
    shares = [share_of(over_data(like.sharding, like.ndim, len(shape)), shape) for like in likes]
    boxes = dict.fromkeys(box for share in shares for box in share.boxes)
    return Share(tuple(boxes), shares[0].counted, shares[0].times)


def _load(folder: Path, digest: Digest, shares: Mapping[int, Share]) -> dict[int, Parts]:
    wanted = {}
    for i, share in shares.items():
        leaf = digest.leaves[i]
        if is_stored(leaf.data_shape):
            wanted[name_of(i)] = data_dtype(leaf.kind), leaf.data_shape, share.boxes
    found = stored_arrays.load_parts(folder / ARRAYS, wanted) if wanted else {}
    loaded = {}
    for i, share in shares.items():
        leaf = digest.leaves[i]
        empty = {
            box: np.zeros([stop - start for start, stop in box], data_dtype(leaf.kind)) for box in share.boxes
        }
        loaded[i] = found.get(name_of(i)) or empty
        if not share.counted:
            _check_whole(leaf, loaded[i])
    return loaded


def _check_whole(leaf: SavedLeaf, parts: Parts) -> None:
    array = parts[whole(leaf.data_shape)]
    if leaf.sha256 is not None and sha256_of(np.ascontiguousarray(array)) != leaf.sha256:
        raise CheckpointError(_differs(leaf, "sha256"))
    if leaf.position_sum is not None and sum_of(parts, leaf.data_shape) != int(leaf.position_sum, 16):
        raise CheckpointError(_differs(leaf, "position sum"))


def _counted(digest: Digest, shares: Mapping[int, Share], found: Mapping[int, Parts]) -> dict[str, Any]:
    """What this process adds to the sum of each leaf that no process reads whole."""
    return {
        str(i): sum_of({box: found[i][box] for box in share.counted}, digest.leaves[i].data_shape)
        for i, share in shares.items()
        if share.times
    }


def _differs(leaf: SavedLeaf, what: str) -> str:
    return f"tree{leaf.path} is not as it was saved: its {what} differs"
