import contextlib
import gzip
import struct

import numpy as np
import pytest

from fourbeat.data.idx_format import idx

# Type code, struct letter, values that need every byte and the sign.
TYPES = {
    np.uint8: (0x08, "B", [0, 1, 2, 127, 200, 255]),
    np.int8: (0x09, "b", [0, 1, -1, 127, -128, 5]),
    np.int16: (0x0B, "h", [0, 1, -2, 258, 32767, -32768]),
    np.int32: (0x0C, "i", [0, 1, -2, 16909060, 2**31 - 1, -(2**31)]),
    np.float32: (0x0D, "f", [0.0, -0.0, 1.5, -3.25, 1e-45, float("inf")]),
    np.float64: (0x0E, "d", [0.0, -0.0, 0.1, -3.25, 5e-324, float("inf")]),
}


def idx_bytes(dtype, shape):
    code, letter, values = TYPES[dtype]
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape)
    return header + struct.pack(f">{len(values)}{letter}", *values)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3)])
@pytest.mark.parametrize("compress", [False, True])
def test_reads_every_type(tmp_path, dtype, shape, compress):
    path = tmp_path / "name-says-nothing"
    data = idx_bytes(dtype, shape)
    path.write_bytes(gzip.compress(data) if compress else data)
    array = idx(path)
    expected = np.array(TYPES[dtype][2], dtype).reshape(shape)
    assert array.dtype == dtype and array.dtype.isnative and array.shape == shape
    assert array.tobytes() == expected.tobytes()
    array[:] = 0  # the caller's own


def test_empty_and_scalar_arrays(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 5]))
    assert idx(path).shape == (0, 5)
    path.write_bytes(bytes([0, 0, 8, 0, 7]))
    assert idx(path).shape == () and idx(path) == 7


SAME_WIDTH = {np.uint8: [0x09], np.int32: [0x0D]}


@pytest.mark.parametrize("dtype", SAME_WIDTH)
def test_every_truncation_and_every_flip_in_the_header_is_seen(tmp_path, dtype):
    path = tmp_path / "file"
    data = idx_bytes(dtype, (2, 3))
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match="file"):
            idx(path)
    for position in range(12):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            if position == 2 and flipped[2] in SAME_WIDTH[dtype]:
                assert idx(path).dtype != dtype  # the one damage that a raw file cannot show
                continue
            with pytest.raises(ValueError, match="file"):
                idx(path)


def test_no_damage_to_a_compressed_file_gives_other_values(tmp_path):
    path = tmp_path / "file"
    data = idx_bytes(np.int16, (6,))
    compressed = gzip.compress(data, mtime=0)
    for end in range(len(compressed)):
        path.write_bytes(compressed[:end])
        with pytest.raises(ValueError, match="file"):
            idx(path)
    for position in range(len(compressed)):
        damaged = bytearray(compressed)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            assert idx(path).tolist() == TYPES[np.int16][2]


ERRORS = {
    "header of 2": (b"\0\0", "PATH has 2 bytes; an idx file has a header of at least 4."),
    "magic": (
        b"PK\x03\x04 and more",
        "PATH is not an idx file: it begins with bytes 50 4b 03 04, where idx files begin with "
        "00 00, a type code and the number of dimensions.",
    ),
    "type": (
        bytes([0, 0, 0x0A, 1, 0, 0, 0, 0]),
        "PATH has the unknown type code 0x0A; known are 0x08 uint8, 0x09 int8, 0x0B int16, "
        "0x0C int32, 0x0D float32, 0x0E float64.",
    ),
    "header": (
        bytes([0, 0, 8, 3, 0, 0, 0, 1]),
        "PATH ends inside its header: 3 dimensions need a header of 16 bytes, and the file has 8. "
        "Get the file anew.",
    ),
    "short": (
        bytes([0, 0, 0x0B, 1, 0, 0, 0, 3, 1, 2]),
        "PATH is too short: int16 of shape (3,) needs 14 bytes with its header, and the file has "
        "10. Get the file anew.",
    ),
    "long": (
        bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 2]),
        "PATH has trailing bytes: uint8 of shape (1,) needs 9 bytes with its header, and the file "
        "has more. Get the file anew.",
    ),
    "dimensions": (
        bytes([0, 0, 8, 70, *[0, 0, 0, 1] * 70, 5]),
        f"PATH cannot be read: NumPy has no array of shape ({', '.join('1' * 70)}).",
    ),
    "huge": (
        bytes([0, 0, 8, 3, 0, 0, 0, 0, *[255] * 8]),
        "PATH cannot be read: NumPy has no array of shape (0, 4294967295, 4294967295).",
    ),
    "gzip": (
        gzip.compress(b"\0\0\x08\x01\0\0\0\x01\x05")[:-9],
        "PATH is a damaged gzip file (Compressed file ended before the end-of-stream marker was "
        "reached). Get the file anew.",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_file(tmp_path, name):
    data, text = ERRORS[name]
    path = tmp_path / "some-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        idx(path)
    assert str(caught.value) == text.replace("PATH", str(path))


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        idx(tmp_path / "absent")
