"""Parts in exact proportions: each gone through again and again, spread evenly over an epoch."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from fourbeat.data.order import Drawn, Remainder, num_in_batches
from fourbeat.data.whole_numbers import whole_number


class Passes:
    """An endless list of examples, gone through again and again: it gives those at some positions.

    Args:
      length: of a pass.
      draw: the examples of a pass, int32 of shape (length,), by its number.

    >>> Passes(3, lambda number: np.arange(3) + 10 * number).take(2, 3).tolist()
    [2, 10, 11]
    """

    def __init__(self, length: int, draw: Callable[[int], np.ndarray]):
        self._length = length
        self._draw = draw

    def take(self, start: int, count: int) -> np.ndarray:
        """The examples at `count` positions from `start` on."""
        pieces, end = [], start + count
        while start < end:
            number, place = divmod(start, self._length)
            pieces.append(self._draw(number)[place : place + end - start])
            start += len(pieces[-1])
        return np.concatenate(pieces)


def interleaved(
    parts: Sequence[Passes],
    proportions: Sequence[Fraction],
    num_examples: int,
    batch_size: int,
    remainder: Remainder,
) -> Drawn:
    """A `StepOrder` that takes a number of examples from each part in every epoch.

    The numbers are in the proportions, rounded by largest remainder; epoch e goes on in each part where epoch
    e - 1 ended. The examples of each part are spread evenly: a batch has the proportions too, as nearly as
    whole numbers allow.

    Args:
      parts: what is gone through.
      proportions: of the parts; they sum to 1.
      num_examples: of an epoch; "drop" rounds it down to whole batches, and leaves nothing out.
      batch_size: examples a batch.
      remainder: whether the last batch is padded.
    """
    num_examples = num_in_batches(num_examples, batch_size, remainder)
    counts = shared_out(num_examples, proportions)
    spread = np.concatenate([(np.arange(count) + 0.5) / count for count in counts if count])
    turns = np.argsort(spread, kind="stable")

    def draw(epoch: int) -> np.ndarray:
        taken = [part.take(epoch * count, count) for part, count in zip(parts, counts, strict=True) if count]
        return np.concatenate(taken)[turns].astype(np.int32, copy=False)

    return Drawn(num_examples, batch_size, remainder, draw)


def shared_out(total: int, proportions: Sequence[Fraction]) -> list[int]:
    """Whole numbers that sum to `total`, in the proportions, by largest remainder; the first of equals first.

    >>> shared_out(10, [Fraction(1, 3)] * 3), shared_out(10, [Fraction(0.7), 1 - Fraction(0.7)])
    ([4, 3, 3], [7, 3])
    """
    quotas = [total * proportion for proportion in proportions]
    counts = [math.floor(quota) for quota in quotas]
    by_rest = sorted(range(len(quotas)), key=lambda i: counts[i] - quotas[i])
    for i in by_rest[: total - sum(counts)]:
        counts[i] += 1
    return counts


def checked_num_examples(place: str, num_examples: int | None, default: int) -> int:
    """The length of an epoch that was asked for, or the default."""
    if num_examples is None:
        return default
    number = whole_number(f"{place}: num_examples", num_examples)
    if not 1 <= number < 2**31:
        raise ValueError(f"{place}: num_examples is {number}; expected 1 to 2**31 - 1 examples an epoch.")
    return number
