"""The idx format of the MNIST files: a big-endian array with its type and shape in front."""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

# http://yann.lecun.com/exdb/mnist/ (archived): "the third byte codes the type of the data".
_TYPES = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads the array of an idx file, gzip compressed or not.

    Args:
      path: of the file; compression is known by its first bytes, not by its name.

    Returns:
      A new array of the file's type (uint8, int8, int16, int32, float32 or float64) and shape, in
      native byte order.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not a whole idx file; the message names it and what is wrong.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
    >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    >>> idx(path).tolist()
    [7, 2, 1]
    """
    return parse_idx(read_decompressed(path), path)


def read_decompressed(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, decompressed where they begin as gzip does."""
    data = Path(path).read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{os.fspath(path)} is a damaged gzip file ({error}). Get the file anew.") from error


def parse_idx(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    """The array in the bytes of an idx file; `path` is for messages."""
    name = os.fspath(path)
    if len(data) < 4:
        raise ValueError(f"{name} has {len(data)} bytes; an idx file has a header of at least 4.")
    if data[:2] != b"\0\0":
        raise ValueError(
            f"{name} is not an idx file: it begins with bytes {data[:4].hex(' ')}, where idx files "
            "begin with 00 00, a type code and the number of dimensions."
        )
    code, num_dims = data[2], data[3]
    if code not in _TYPES:
        known = ", ".join(f"0x{key:02X} {dtype.name}" for key, dtype in _TYPES.items())
        raise ValueError(f"{name} has the unknown type code 0x{code:02X}; known are {known}.")
    start = 4 + 4 * num_dims
    if len(data) < start:
        raise ValueError(
            f"{name} ends inside its header: {num_dims} dimensions need a header of {start} bytes, "
            f"and the file has {len(data)}. Get the file anew."
        )
    shape = struct.unpack(f">{num_dims}I", data[4:start])
    dtype = _TYPES[code]
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        problem = "is too short" if len(data) < expected else "has trailing bytes"
        raise ValueError(
            f"{name} {problem}: {dtype.name} of shape {shape} needs {expected} bytes with its "
            f"header, and the file has {len(data)}. Get the file anew."
        )
    stored = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return stored.astype(dtype.newbyteorder("="))
