"""The named arrays of a file, or of several with an index."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fourbeat.models.errors import ModelFileError
from fourbeat.models.tensor_files import read_tensors

_INDEX = ".safetensors.index.json"
_MOST_BYTES = 2**26  # of an index: it lists names


def read_weights(file: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays by name, read-only views of the files.

    Args:
      file: a safetensors file; the index of several (`model.safetensors.index.json`); or a folder with one of
        the two.

    Raises:
      ModelFileError: it is none of these, or damaged; the text names the file.
      OSError: it cannot be read.
    """
    path = _found(Path(file))
    return _of_index(path) if path.name.endswith(".json") else read_tensors(path)


def _found(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(each for each in path.iterdir() if each.name.endswith((_INDEX, ".safetensors")))
    indices = [each for each in files if each.name.endswith(_INDEX)]
    candidates = indices or files
    if len(candidates) != 1:
        seen = ", ".join(each.name for each in candidates) or "none"
        raise ModelFileError(
            f"the folder {path} has to hold one file of weights, and it has {seen}. Name one."
        )
    return candidates[0]


def _of_index(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        content: Any = json.loads(path.read_bytes())
        places = {str(name): str(shard) for name, shard in content["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is no index of safetensors files: {error}. It has a 'weight_map' of names to files."
        ) from None
    shards: dict[str, dict[str, np.ndarray]] = {}
    for name, shard in places.items():
        if Path(shard).name != shard or "\\" in shard or shard in ("", ".", ".."):
            raise ModelFileError(
                f"{path} names {shard!r}, which is not the plain name of a file beside it: it is not opened."
            )
        if shard not in shards:
            if not (path.parent / shard).is_file():
                raise ModelFileError(f"{path.parent / shard} is missing, and {path.name} names it.")
            shards[shard] = read_tensors(path.parent / shard)
        if name not in shards[shard]:
            raise ModelFileError(f"{path.parent / shard} has no {name}, and {path.name} says it has.")
    return {name: shards[shard][name] for name, shard in places.items()}
