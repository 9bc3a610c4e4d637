"""Arrow columns of every type, in several chunks, beside what Python makes of them."""

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")

from fourbeat.data.readers.arrow_values import ArrowColumn, is_plain  # noqa: E402

ROWS = np.array([5, 0, 3, 3, 1])
DENSE = {
    "int64": pa.array(range(6)),
    "uint8": pa.array(range(6), pa.uint8()),
    "float16": pa.array(np.arange(6, dtype=np.float16)),
    "bool": pa.array([True, False, True, True, False, True]),
    "lists of one length": pa.array([[i, i + 1] for i in range(6)], pa.list_(pa.int16())),
    "fixed lists": pa.array([[i, i + 1] for i in range(6)], pa.list_(pa.float32(), 2)),
    "nested": pa.array([[[i], [2 * i]] for i in range(6)], pa.large_list(pa.list_(pa.uint8()))),
    "strings": pa.array([f"{i}" * i for i in range(6)]),
    "categories": pa.array(["b", "a", "b", "b", "a", "b"]).dictionary_encode(),
}
LISTED = {
    "ragged": pa.array([list(range(i)) for i in range(6)]),
    "nulls": pa.array([0, 1, None, 3, 4, None]),
    "nulls in lists": pa.array([[0, None]] * 6),
    "a null list": pa.array([[0], None, [1], [2], [3], [4]]),
    "null strings": pa.array(["a", None, "c", "d", "e", "f"]),
    "bytes": pa.array([bytes([i, 0]) for i in range(6)]),
}


def chunks(array):
    """In one piece, in three that are slices, and with an empty one."""
    return pa.chunked_array([array]), pa.chunked_array([array[:1], array[1:4], array[:0], array[4:]])


@pytest.mark.parametrize("kind", DENSE)
def test_values_of_one_shape_are_an_array(kind):
    wanted = DENSE[kind].to_pylist()
    for chunked in chunks(DENSE[kind]):
        found = ArrowColumn(chunked).take(ROWS)
        assert found.tolist() == [wanted[row] for row in ROWS]
        if kind in ("int64", "uint8", "float16", "bool"):
            assert found.dtype == kind
        found[:1] = found[1:2]  # it is memory of its own
        assert chunked.to_pylist() == wanted
    assert is_plain(DENSE[kind].type)


@pytest.mark.parametrize("kind", LISTED)
def test_other_values_are_a_list(kind):
    wanted = LISTED[kind].to_pylist()
    for chunked in chunks(LISTED[kind]):
        found = ArrowColumn(chunked).take(ROWS)
        assert [value.tolist() if isinstance(value, np.ndarray) else value for value in found] == [
            wanted[row] for row in ROWS
        ]
    assert is_plain(LISTED[kind].type)


def test_structs_are_no_plain_values():
    assert not is_plain(pa.struct({"bytes": pa.binary()}))
    assert not is_plain(pa.timestamp("s"))
