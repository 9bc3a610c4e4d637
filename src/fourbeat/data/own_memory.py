"""Copies the arrays that other code can still write, before they are used later."""

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any
from weakref import getweakrefcount

import numpy as np

_MOST_TRIES = 8
# A CPU device shares memory that is aligned to so many bytes, and copies any other. NumPy aligns no large
# array so, and that copy takes several times as long as ours. A small one is copied faster than aligned.
_ALIGNED, _LARGE_BYTES = 64, 2**18


def make_own(columns: dict[Any, Any]) -> None:
    """Puts a copy in place of each array of a dict that other code can write; all become read-only.

    An array that only the dict refers to was freshly made, and no other code can write it: it stays.

    Args:
      columns: NumPy arrays by name; others, such as a `jax.Array`, stay. The caller must hold no other
        reference to one of them.

    >>> buffer = np.zeros(2)
    >>> columns = {"mine": np.ones(2), "reused": buffer}
    >>> mine = id(columns["mine"])
    >>> make_own(columns)
    >>> id(columns["mine"]) == mine, columns["reused"] is buffer
    (True, False)
    """
    for name in columns:
        if isinstance(columns[name], np.ndarray):
            if _references(columns, name) > _OF_A_FRESH_ARRAY:
                columns[name] = _copied(columns[name])
            columns[name].setflags(write=False)


def _copied(array: np.ndarray) -> np.ndarray:
    """A copy in memory that a device can share, if it is large.

    >>> copy = _copied(np.ones((300, 300), np.float32))
    >>> copy.__array_interface__["data"][0] % 64, copy.sum().item()
    (0, 90000.0)
    """
    if array.nbytes < _LARGE_BYTES:
        return np.array(array)
    memory = np.empty(array.nbytes + _ALIGNED, np.uint8)
    start = -memory.__array_interface__["data"][0] % _ALIGNED
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _references(columns: dict[Any, Any], name: Any) -> int:
    """The number of references to an array and to its base; a very large one if that cannot be told."""
    column = columns[name]
    base = column.base
    if base is None:
        is_known = column.flags.owndata and type(column) is np.ndarray
        return getrefcount(column) + getweakrefcount(column) if is_known else sys.maxsize
    if type(base) is not np.ndarray or not base.flags.owndata:
        return sys.maxsize
    of_both = getrefcount(column) + getweakrefcount(column) + getrefcount(base) + getweakrefcount(base)
    return of_both - _OF_A_BASE


# measured, because references of this file and of the interpreter are among them
_OF_A_BASE = 0
_OF_A_FRESH_ARRAY = _references({"x": np.zeros(2)}, "x")
_OF_A_BASE = _references({"x": np.zeros(2).reshape(2, 1)}, "x") - _OF_A_FRESH_ARRAY


def column_written_again(
    examples: Sequence[Any], numbers: Sequence[int], read: Callable[[int], object]
) -> str | None:
    """The first column whose examples all lie in one buffer that each read overwrites; None without one.

    An array that all examples share and that is never written is no such column.

    Args:
      examples: dicts of columns, read one after the other.
      numbers: the numbers of the examples.
      read: reads an example once more, by its number.

    >>> buffer = np.zeros(2)
    >>> def decode(number):
    ...     buffer[:] = number
    ...     return {"x": buffer, "half": np.full(2, number / 2)}
    >>> column_written_again([decode(3), decode(4)], [3, 4], decode)
    'x'
    """
    for name in examples[0]:
        lying_at = defaultdict(list)
        for i, example in enumerate(examples):
            value = example.get(name)
            if isinstance(value, np.ndarray) and value.size:
                lying_at[value.__array_interface__["data"][0]].append(i)
        for places in lying_at.values():
            if len(places) > 1 and _is_written_again(examples[places[-1]][name], places, numbers, read):
                return name
    return None


def _is_written_again(
    array: np.ndarray, places: Sequence[int], numbers: Sequence[int], read: Callable[[int], object]
) -> bool:
    held = array.copy()
    for i in places[:_MOST_TRIES]:
        read(numbers[i])
        if held.tobytes() != array.tobytes():
            return True
    return False
