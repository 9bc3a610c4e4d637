"""The idx format of the MNIST files: a big-endian array with its type and shape in front."""

import contextlib
import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

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
_MAX_HEADER = 4 + 4 * 255
_CHUNK_BYTES = 2**20


def idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads the array of an idx file, gzip compressed or not.

    No more is decompressed than the header says, and one byte.

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
    return parse_idx(read_idx(path), path)


def idx_header(path: str | os.PathLike[str]) -> tuple[np.dtype, tuple[int, ...]]:
    """What an idx file says that it holds: dtype, in native byte order, and shape. No more of it is read.

    Raises:
      FileNotFoundError, ValueError: as `idx`.
    """
    with _opened(path) as file:
        dtype, shape, _ = _header(_read(file, _MAX_HEADER, path), path)
    return dtype.newbyteorder("="), shape


def read_idx(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an idx file, decompressed: as many as its header says, and one more where there are more.

    Raises:
      FileNotFoundError, ValueError: as `idx`; that it is too short or too long is left to `parse_idx`.
    """
    with _opened(path) as file:
        data = _read(file, _MAX_HEADER, path)
        dtype, shape, start = _header(data, path)
        size = start + math.prod(shape) * dtype.itemsize
        return data[: size + 1] + _read(file, size + 1 - len(data), path)


def parse_idx(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    """The array in the bytes of an idx file; `path` is for messages."""
    name = os.fspath(path)
    dtype, shape, start = _header(data, path)
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        problem = "is too short" if len(data) < expected else "has trailing bytes"
        seen = str(len(data)) if len(data) < expected else "more"
        raise ValueError(
            f"{name} {problem}: {dtype.name} of shape {shape} needs {expected} bytes with its "
            f"header, and the file has {seen}. Get the file anew."
        )
    try:
        stored = np.frombuffer(data, dtype, offset=start).reshape(shape)
    except ValueError as error:  # more dimensions, or longer ones
        raise ValueError(f"{name} cannot be read: NumPy has no array of shape {shape}.") from error
    return stored.astype(dtype.newbyteorder("="))


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """The file, open for reading; it is decompressed where it begins as gzip does."""
    with Path(path).open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_gzip else file


def _read(file: IO[bytes], size: int, path: str | os.PathLike[str]) -> bytes:
    """At most so many bytes, in no more memory than those need that are there."""
    data = bytearray()
    try:
        while len(data) < size and (part := file.read(min(size - len(data), _CHUNK_BYTES))):
            data += part
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{os.fspath(path)} is a damaged gzip file ({error}). Get the file anew.") from error
    return bytes(data)


def _header(data: bytes, path: str | os.PathLike[str]) -> tuple[np.dtype, tuple[int, ...], int]:
    """Dtype as stored, shape, and the header's length in bytes; `path` is for messages."""
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
    return _TYPES[code], struct.unpack(f">{num_dims}I", data[4:start]), start
