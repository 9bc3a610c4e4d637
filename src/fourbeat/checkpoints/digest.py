"""The digest of a checkpoint: what was saved, a digest of every leaf, and the sha256 of every file."""

import dataclasses
import hashlib
import json
import math
from typing import Any, Self

import numpy as np

from fourbeat.checkpoints.leaves import LeafKind
from fourbeat.checkpoints.retention import UNNAMED
from fourbeat.types import Object

_FORMAT = 1  # written by one process; the leaves have a sha256
_FORMAT_OF_SEVERAL = 2  # written by several processes; the leaves have a position sum


@dataclasses.dataclass(frozen=True)
class SavedLeaf:
    """One leaf of a checkpoint.

    Attributes:
      path: its place in the tree, as `jax.tree_util.keystr` writes it. Compared, never opened.
      kind: its dtype and shape.
      data_shape: the shape of the stored array: a typed key has more axes there.
      key_impl: the PRNG implementation of a typed key, else None.
      sha256: of the stored array's bytes; None where several processes wrote it.
      position_sum: of the stored array, as 16 hexadecimal digits; None where one process wrote it.
    """

    path: str
    kind: LeafKind
    data_shape: tuple[int, ...]
    key_impl: str | None
    sha256: str | None
    position_sum: str | None = None


@dataclasses.dataclass(frozen=True)
class Digest:
    """What a checkpoint says of itself. Orbax loads a flipped bit in silence; this tells.

    Attributes:
      step: the step it was saved at.
      scores: the scores given with it, by name.
      saved_at_s: when it was saved, in seconds since 1970; None where that was not written down.
      leaves: one entry a leaf, in the tree's order.
      files: the sha256 of each file of the checkpoint but the digest, by its path in there.
      held: what plain Python objects inside the models held, by path; None where that was not written down.
      processes: how many wrote it.
    """

    step: int
    scores: dict[str, float]
    saved_at_s: float | None
    leaves: tuple[SavedLeaf, ...]
    files: dict[str, str]
    held: dict[str, str] | None = None
    processes: int = 1

    def encode(self) -> bytes:
        """JSON, with a sha256 of all the rest."""
        content = {"format": _FORMAT, **dataclasses.asdict(self)}
        if self.processes > 1:
            content["format"] = _FORMAT_OF_SEVERAL
        else:
            del content["processes"]
        content["leaves"] = [_leaf_json(leaf) for leaf in self.leaves]
        content["scores"] = {
            name: score if math.isfinite(score) else str(score)  # JSON has no such number
            for name, score in self.scores.items()
        }
        return json.dumps({**content, "sha256": _sha256_of_json(content)}, indent=1).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The digest in `data`.

        Raises:
          ValueError: this is no digest, or not as it was written.
        """
        try:
            content = json.loads(data)
            claimed = content.pop("sha256")
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            raise ValueError("it is no digest of a checkpoint") from None
        if claimed != _sha256_of_json(content):
            raise ValueError("its own sha256 does not match")
        if content.get("format") not in (_FORMAT, _FORMAT_OF_SEVERAL):
            raise ValueError(
                f"it has format {content.get('format')}, and this fourbeat reads {_FORMAT} and "
                f"{_FORMAT_OF_SEVERAL}"
            )
        try:
            leaves = tuple(map(_leaf_from_json, content["leaves"]))
            scores, files = _scores_in(content), dict(content["files"])
            held = None if content.get("held") is None else dict(content["held"])
            saved_at_s = None if content.get("saved_at_s") is None else float(content["saved_at_s"])
            processes = int(content.get("processes", 1))
            return cls(int(content["step"]), scores, saved_at_s, leaves, files, held, processes)
        except (ValueError, AttributeError, KeyError, TypeError):
            raise ValueError("it is no digest of a checkpoint") from None


def sha256_of(array: np.ndarray) -> str:
    """The digest of the bytes of a C-contiguous array.

    >>> sha256_of(np.zeros(0, np.float32))[:8]
    'e3b0c442'
    """
    data = array.reshape(-1).view(np.uint8).data if array.size else b""
    return hashlib.sha256(data).hexdigest()


def _scores_in(content: dict[str, Any]) -> dict[str, float]:
    scores = content.get("scores")
    if scores is None:  # written when a checkpoint had one score, without a name
        scores = {} if content["score"] is None else {UNNAMED: content["score"]}
    return {str(name): float(score) for name, score in scores.items()}


def _leaf_json(leaf: SavedLeaf) -> dict[str, Any]:
    content = {**dataclasses.asdict(leaf), "kind": [leaf.kind.dtype, list(leaf.kind.shape)]}
    del content["sha256" if leaf.sha256 is None else "position_sum"]
    return content


def _leaf_from_json(content: dict[str, Any]) -> SavedLeaf:
    dtype, shape = content["kind"]
    impl = content["key_impl"]
    return SavedLeaf(
        path=str(content["path"]),
        kind=LeafKind(str(dtype), tuple(map(int, shape))),
        data_shape=tuple(map(int, content["data_shape"])),
        key_impl=None if impl is None else str(impl),
        sha256=str(content["sha256"]) if "sha256" in content else None,
        position_sum=None if "sha256" in content else str(content["position_sum"]),
    )


def _sha256_of_json(content: Object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
