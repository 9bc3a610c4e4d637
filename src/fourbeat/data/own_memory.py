"""Whose memory an array is: what somebody else can still write must be copied before it is used later."""

import sys
import weakref
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_MOST_TRIES = 8


def make_own(columns: dict[str, Any]) -> None:
    """Copies, in place, the arrays of a dict that something beside it can write.

    An array that only the dict refers to was freshly made, and nobody can write it: it stays.

    Args:
      columns: NumPy arrays by name. Whoever calls must hold no other reference to one of them.

    >>> buffer = np.zeros(2)
    >>> columns = {"mine": np.ones(2), "reused": buffer}
    >>> mine = id(columns["mine"])
    >>> make_own(columns)
    >>> id(columns["mine"]) == mine, columns["reused"] is buffer
    (True, False)
    """
    for name in columns:
        if _references_beside(columns, name):
            columns[name] = np.array(columns[name])


def _references_beside(columns: dict[str, Any], name: str) -> int:
    """What refers to an array, or its base, beside the dict; many for memory of others."""
    count, is_view = _references(columns, name)
    return count - (_OF_A_FRESH_VIEW if is_view else _OF_A_FRESH_ARRAY)


def _references(columns: dict[str, Any], name: str) -> tuple[int, bool]:
    column = columns[name]
    base = column.base
    owner = column if base is None else base
    if type(owner) is not np.ndarray or not owner.flags.owndata:
        return sys.maxsize, False
    count = sys.getrefcount(owner) + weakref.getweakrefcount(owner)
    if base is not None:
        count += sys.getrefcount(column) + weakref.getweakrefcount(column)
    return count, base is not None


# the references of the interpreter and of this file are among those that are counted
_OF_A_FRESH_ARRAY = _references({"x": np.zeros(2)}, "x")[0]
_OF_A_FRESH_VIEW = _references({"x": np.zeros(2).reshape(2, 1)}, "x")[0]


def column_written_again(
    examples: Sequence[Any], numbers: Sequence[int], read: Callable[[int], object]
) -> str | None:
    """The first column whose arrays are one buffer, into which each example is written anew; mostly None.

    An array that all examples share and nobody writes to is none.

    Args:
      examples: dicts of columns, read one after the other.
      numbers: of the examples.
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
