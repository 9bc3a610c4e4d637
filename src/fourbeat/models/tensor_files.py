"""Files of named arrays in the safetensors format: read as views of the file, written in C order.

The format: the size of the header in 8 bytes, the header as JSON (dtype, shape and place of each array), the
bytes of the arrays. It is read and written here, because the NumPy half of the library writes an array that
is not contiguous in a wrong order, without an error, and reads no bfloat16.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from fourbeat.models.errors import ModelFileError
from fourbeat.types import Object

DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "I64": "int64", "I32": "int32", "I16": "int16",
    "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
    "C64": "complex64",
}  # fmt: skip
_NAMES = {name: code for code, name in DTYPES.items()}
_ABOUT = "__metadata__"  # the one key of the header that names no array
_MOST_HEADER_BYTES = 100_000_000  # as the library has it


def write_tensors(file: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Writes arrays to a file.

    Args:
      file: where to.
      arrays: by name.
      about: texts by name, beside the arrays.

    Raises:
      ValueError: an array has a dtype or a name that the format does not have.
    """
    for name, array in arrays.items():
        if array.dtype.name not in _NAMES:
            raise ValueError(
                f"cannot write {name}: safetensors has no {array.dtype.name}. It has "
                f"{', '.join(DTYPES.values())}; cast the array to one of them."
            )
        if name == _ABOUT:
            raise ValueError(f"cannot write {name}: safetensors keeps this name. Give the array another one.")
    # the widest first: no array then begins at a place that its dtype cannot begin at
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header: dict[str, Any] = {_ABOUT: dict(about)}
    end = 0
    for name in names:
        array, begin = arrays[name], end
        end = begin + array.nbytes
        code, shape = _NAMES[array.dtype.name], list(array.shape)
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            array = arrays[name]
            # not ascontiguousarray, which makes (1,) of ()
            native = np.array(array, dtype=array.dtype.newbyteorder("<"), order="C", copy=None)
            opened.write(native.tobytes())


def read_tensors(file: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file by name, read-only views of it: a page is read when it is used.

    Raises:
      ModelFileError: this is no safetensors file, or a damaged one; the text says how.
      OSError: it cannot be read.
    """
    file = Path(file)
    size_bytes = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
        header_bytes = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= header_bytes <= min(size_bytes - 8, _MOST_HEADER_BYTES):
            raise ModelFileError(_no_safetensors(file, start))
        header = _parsed(file, opened.read(header_bytes))
    begin = 8 + header_bytes
    data = np.memmap(file, np.uint8, "r", begin) if size_bytes > begin else np.zeros(0, np.uint8)
    header.pop(_ABOUT, None)
    places = {name: _place(file, name, entry) for name, entry in header.items()}
    _check_covered(file, places, data.size)
    return {name: _view(data[start:end], *kind) for name, (kind, start, end) in places.items()}


def _parsed(file: Path, text: bytes) -> dict[str, Any]:
    def refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name is there twice")
        return dict(pairs)

    try:
        header = json.loads(text.decode(), object_pairs_hook=refuse_twins)
        if not isinstance(header, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        if not text.lstrip().startswith(b"{"):
            raise ModelFileError(_no_safetensors(file, text[:8])) from None
        raise ModelFileError(
            f"{file} is damaged: its header cannot be read ({error}). Get it anew."
        ) from None
    return header


def _place(file: Path, name: str, entry: Object) -> tuple[tuple[np.dtype, tuple[int, ...]], int, int]:
    """The dtype and the shape of an array, and where its bytes begin and end."""
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, begin, end)
        if any(type(number) is not int or number < 0 for number in numbers) or type(code) is not str:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ModelFileError(
            f"{file} is damaged: its header says nothing of {name!r}. Get it anew."
        ) from None
    if code not in DTYPES:
        raise ModelFileError(
            f"{file}: {name} is of dtype {code}, which NumPy and JAX have no name for; fourbeat reads "
            f"{', '.join(DTYPES)}. Write it in one of these."
        )
    return (jnp.dtype(DTYPES[code]), shape), begin, end


def _check_covered(file: Path, places: Mapping[str, tuple], size_bytes: int) -> None:
    """Raises unless each array has the bytes that its shape needs, and all together all bytes of the file."""
    last = 0
    for name, ((dtype, shape), begin, end) in sorted(places.items(), key=lambda item: item[1][1:]):
        needed = dtype.itemsize
        for length in shape:
            needed *= length
        if begin != last or end - begin != needed:
            raise ModelFileError(
                f"{file} is damaged: {name} of {dtype}{list(shape)} needs {needed} bytes from byte {last} "
                f"on, and the header gives it bytes {begin} to {end}. Get it anew."
            )
        last = end
    if last != size_bytes:
        raise ModelFileError(
            f"{file} is damaged: its arrays need {last} bytes and it has {size_bytes}. Get it anew."
        )


def _view(data: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    view = np.frombuffer(data, dtype) if data.size else np.zeros(0, dtype)
    view = view.reshape(shape)
    view.flags.writeable = False
    return view


def _no_safetensors(file: Path, start: bytes) -> str:
    if start.startswith((b"PK", b"\x80")):
        return (
            f"{file} is a pickle of PyTorch, and nothing is unpickled here: a pickle can run any code. Write "
            "it anew, in PyTorch: safetensors.torch.save_file(torch.load(file, weights_only=True), "
            "'model.safetensors')."
        )
    seen = f"it begins with bytes {start[:8].hex(' ')}" if start else "it is empty"
    return f"{file} is no safetensors file, or is cut off: {seen}. Give a file that ends in .safetensors."
