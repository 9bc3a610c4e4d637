"""A digest of an array that is the same however the array is cut into parts: a sum over all positions.

Each element is mixed with its position in the whole array, and the mixed numbers are added modulo 2**64. So
the sums of the parts that several processes hold add up to the sum of the array, and no process needs the
whole. The mixing is one-to-one for a position, so a flipped bit always changes the sum.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

_BLOCK = 2**15  # elements mixed at once: what they need stays in a core's cache
_STRIDE, _FIRST, _SECOND = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_WORDS = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<u4", 16: "<u4"}  # by the size of an element


def position_sum(
    part: np.ndarray, start: Sequence[int] | None = None, shape: Sequence[int] | None = None
) -> int:
    """The sum of a part of an array, from 0 to 2**64 - 1.

    Args:
      part: a box out of the array.
      start: its first index along each axis; 0 by default.
      shape: that of the whole array; by default that of the part.

    >>> whole = np.arange(12.0).reshape(3, 4)
    >>> left, right = position_sum(whole[:, :1], (0, 0), (3, 4)), position_sum(whole[:, 1:], (0, 1), (3, 4))
    >>> total([left, right]) == position_sum(whole)
    True
    """
    shape = part.shape if shape is None else tuple(shape)
    start = (0,) * len(shape) if start is None else tuple(start)
    if not part.size:
        return 0
    words = np.ascontiguousarray(part).reshape(-1).view(_WORDS[part.dtype.itemsize])
    per_element = words.size // part.size
    run, rows = _runs(part.shape, start, shape)
    words, rows, run = words.reshape(len(rows), -1), rows * np.uint64(per_element), run * per_element
    found = 0
    for row in range(0, len(rows), many := max(1, _BLOCK // run)):
        for column in range(0, run, _BLOCK):
            block = words[row : row + many, column : column + _BLOCK]
            columns = np.arange(column, column + block.shape[1], dtype=np.uint64)
            found += int(_mixed(block, rows[row : row + many, None] + columns).sum(dtype=np.uint64))
    return found % 2**64


def total(sums: Iterable[int]) -> int:
    """The sum of an array from those of its parts."""
    return sum(sums) % 2**64


def _runs(part: Sequence[int], start: Sequence[int], shape: Sequence[int]) -> tuple[int, np.ndarray]:
    """How many elements lie in a row in the whole array, and the position there of the first of each row."""
    axis = len(shape)
    while axis and part[axis - 1] == shape[axis - 1]:
        axis -= 1
    first = max(axis - 1, 0)  # the axis along which a row is cut off
    rows = np.zeros(1, np.uint64)
    for each in range(first):
        stride = math.prod(shape[each + 1 :])
        along = np.arange(start[each], start[each] + part[each], dtype=np.uint64) * np.uint64(stride)
        rows = (rows[:, None] + along).reshape(-1)
    offset = start[first] * math.prod(shape[first + 1 :]) if shape else 0
    return math.prod(part[first:]), rows + np.uint64(offset)


def _mixed(words: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """One-to-one in the word, for each position. The mixing is that of splitmix64.

    Sebastiano Vigna's constants: https://prng.di.unimi.it/splitmix64.c
    """
    mixed = positions * _STRIDE
    mixed += words
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= factor
    mixed ^= mixed >> np.uint64(31)
    return mixed
