"""Arrow columns as NumPy arrays: types kept, lists of one length side by side, strings as strings."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fourbeat.types import Object

Values: TypeAlias = np.ndarray | list[Any]
"""Values of n examples: an array of leading dimension n (of objects where they are strings), or a list where
they have no common shape."""
_IN_BETWEEN_BYTES = 2**16


class ArrowColumn:
    """A column of an Arrow table, whose values are read by row.

    Numbers and lists of one length are looked at where they lie, in a memory-mapped file too.

    Args:
      chunked: a `pyarrow.ChunkedArray`.
    """

    def __init__(self, chunked: Object):
        chunks = [chunk for chunk in chunked.chunks if len(chunk)]
        self._ends = np.cumsum([len(chunk) for chunk in chunks])
        # what was not asked for yet, and then a view of it where it is of one shape
        self._chunks: list[Any] = [_storage(chunk) for chunk in chunks]

    def take(self, rows: np.ndarray) -> Values:
        """The values of some rows, in their order, in fresh memory."""
        if len(self._chunks) == 1:
            return self._take(0, rows)
        chunk_of = np.searchsorted(self._ends, rows, side="right")
        pieces = []
        for place in places_of(chunk_of):
            chunk = int(chunk_of[place[0]])
            start = self._ends[chunk - 1] if chunk else 0
            pieces.append(Piece(*self._values_of(chunk, rows[place] - start), place))
        return gathered(pieces, len(rows))

    def _take(self, chunk: int, rows: np.ndarray) -> Values:
        column, rows = self._values_of(chunk, rows)
        return taken(column, rows)

    def _values_of(self, chunk: int, rows: np.ndarray) -> tuple[Values, np.ndarray]:
        """Values of a chunk, and the places of some rows among them."""
        found = self._chunks[chunk]
        if isinstance(found, np.ndarray):
            return found, rows
        view = dense(found)
        if view is not None:
            self._chunks[chunk] = view
            return view, rows
        return values(found.take(_arrow_rows(rows))), np.arange(len(rows))


class Piece(NamedTuple):
    """Some values of a column: `column[rows]` belongs at `places` of a whole."""

    column: Values
    rows: np.ndarray
    places: np.ndarray


def places_of(pieces: np.ndarray) -> list[np.ndarray]:
    """For each piece the places, in order, of the examples that lie in it.

    >>> places_of(np.array([7, 2, 7]))
    [array([1]), array([0, 2])]
    """
    order = np.argsort(pieces, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(pieces[order])) + 1)


def gathered(pieces: Sequence[Piece], size: int) -> Values:
    """Values of `size` examples out of several pieces, in fresh memory."""
    arrays = [piece.column for piece in pieces if isinstance(piece.column, np.ndarray)]
    if len(arrays) == len(pieces) and len({array.shape[1:] for array in arrays}) == 1:
        shape, dtype = arrays[0].shape[1:], np.result_type(*{array.dtype for array in arrays})
        whole = np.empty((size, *shape), dtype)
        # few at a time, so that what lies in between stays in the cache
        step = max(1, _IN_BETWEEN_BYTES // max(1, dtype.itemsize * math.prod(shape)))
        for column, rows, places in pieces:
            for i in range(0, len(rows), step):
                whole[places[i : i + step]] = column[rows[i : i + step]]
        return whole
    listed: list[Any] = [None] * size
    for column, rows, places in pieces:
        for value, i in zip(taken(column, rows), places.tolist(), strict=True):
            listed[i] = value
    return listed


def whole(chunked: Object) -> Values:
    """All values of a column, to be read only: numbers are looked at where they lie."""
    array = chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()
    view = dense(array)
    return values(array) if view is None else view


def taken(column: Values, rows: np.ndarray) -> Values:
    """Some of the values, in fresh memory."""
    return column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows.tolist()]


def is_plain(arrow_type: Object) -> bool:
    """Whether values of an Arrow type are numbers, strings, bytes, or lists of them."""
    import pyarrow.types as types

    arrow_type = getattr(arrow_type, "storage_type", arrow_type)
    while (
        types.is_list(arrow_type) or types.is_large_list(arrow_type) or types.is_fixed_size_list(arrow_type)
    ):
        arrow_type = arrow_type.value_type
    if types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    return any(
        check(arrow_type)
        for check in (
            types.is_integer,
            types.is_floating,
            types.is_boolean,
            types.is_string,
            types.is_large_string,
            types.is_binary,
            types.is_large_binary,
            types.is_fixed_size_binary,
        )
    )


def dense(array: Object) -> np.ndarray | None:
    """A view of numbers, or of lists of one length; None of anything else, and where a value is null."""
    import pyarrow.types as types

    array = _storage(array)
    kind = array.type
    if array.null_count:
        return None
    if types.is_fixed_size_list(kind):
        length = kind.list_size
    elif types.is_list(kind) or types.is_large_list(kind):
        lengths = np.diff(array.offsets.to_numpy())
        if not len(lengths) or (lengths != lengths[0]).any():
            return None
        length = int(lengths[0])
    elif types.is_integer(kind) or types.is_floating(kind):
        return array.to_numpy(zero_copy_only=True)
    elif types.is_boolean(kind):
        return array.to_numpy(zero_copy_only=False)
    else:
        return None
    flat = dense(array.flatten())
    return None if flat is None else flat.reshape(len(array), length, *flat.shape[1:])


def values(array: Object) -> Values:
    """The values of an Arrow array, in NumPy's terms; null is None, bytes are Python's own."""
    import pyarrow.types as types

    array = _storage(array)
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    found = dense(array)
    if found is not None:
        return found.copy()
    kind = array.type
    if array.null_count == 0 and (types.is_string(kind) or types.is_large_string(kind)):
        # as objects: an array of strings gives each the room of the longest
        return array.to_numpy(zero_copy_only=False)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return [None if not one.is_valid else _list_value(one.values) for one in array]
    return array.to_pylist()


def _list_value(array: Object) -> Any:
    found = values(array)
    if isinstance(found, np.ndarray):
        return found
    return array.to_pylist()


def _storage(array: Object) -> Any:
    return getattr(array, "storage", array)


def _arrow_rows(rows: np.ndarray) -> Any:
    import pyarrow

    return pyarrow.array(rows)
