"""An order in which every class comes equally often."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fourbeat.data.interleaving import checked_num_examples
from fourbeat.data.order import (
    Drawn,
    Order,
    Remainder,
    StepOrder,
    check_one_an_example,
    num_in_batches,
)


class Balanced:
    """An `Order` by class: made by `balanced`."""

    def __init__(self, labels: np.ndarray, num_examples: int | None):
        self._classes, self._class_of = np.unique(labels, return_inverse=True)
        whole_rounds = -(-len(labels) // len(self._classes)) * len(self._classes)
        self._num_examples = checked_num_examples("balanced(...)", num_examples, whole_rounds)
        if self._num_examples < len(self._classes):
            raise ValueError(
                f"balanced(...) has {len(self._classes)} classes, and an epoch of {self._num_examples} "
                f"examples would never show all. Use num_examples >= {len(self._classes)}."
            )

    def of(
        self, num_examples: int, batch_size: int, *, shuffle: bool, seed: int, remainder: Remainder
    ) -> StepOrder:
        """See `Order.of`."""
        check_one_an_example("balanced", "labels", len(self._class_of), num_examples)
        number = num_in_batches(self._num_examples, batch_size, remainder)
        passes = _Passes(self._class_of, seed if shuffle else None)
        counts = np.full(len(self._classes), number // len(self._classes))
        counts[: number % len(self._classes)] += 1
        class_of, place = _repeated(counts)
        turns = np.argsort((place + 0.5) / counts[class_of], kind="stable")

        def draw(epoch: int) -> np.ndarray:
            return passes.take(epoch * counts, counts)[turns]

        return Drawn(number, batch_size, remainder, draw)

    def __repr__(self) -> str:
        return f"balanced({len(self._class_of)} labels of {len(self._classes)} classes)"


def balanced(labels: Sequence[Any] | np.ndarray, num_examples: int | None = None) -> Order:
    """An order in which every class comes equally often: for `batches(order=)`.

    The classes take turns, so a batch holds each of them equally often too, to within one. Each class is gone
    through again and again, all of its examples before one comes twice, and the next epoch goes on where this
    one ended. So the examples of a rare class repeat within an epoch, and those of a frequent class take
    several epochs. With `shuffle` each pass through a class is permuted anew; without it, it is in the order
    of the data.

    Args:
      labels: whole numbers, bools or strings, one for each example of these data.
      num_examples: of an epoch; by default as many as the data has, rounded up to a multiple of the classes:
        then each comes exactly equally often. Else, and where `remainder="drop"` rounds an epoch down to
        whole batches, the first classes come once more than the last.

    Raises:
      ValueError: the labels are not one an example, or there are fewer `num_examples` than classes.

    >>> from fourbeat.data import Arrays
    >>> labels = ["cat", "cat", "dog", "cat", "cat"]
    >>> batches = Arrays(x=range(5)).batches(2, order=balanced(labels))
    >>> [batches.numbers_of(step) for step in range(5)]
    [[0, 2], [1, 2], [3, 2], [4, 2], [0, 2]]
    """
    given = np.asarray(labels)
    if given.ndim != 1 or given.dtype.kind not in "biuUS" or not len(given):
        raise ValueError(
            f"labels is {given.dtype} of shape {given.shape}; expected whole numbers or strings, one an "
            "example."
        )
    return Balanced(given, num_examples)


class _Passes:
    """Passes through each of many classes, again and again; all classes are drawn from in the same calls.

    Args:
      class_of: the class of each example, from 0 on, int of shape (n,).
      seed: from which every pass is permuted anew; None leaves all in the order of the data.
    """

    def __init__(self, class_of: np.ndarray, seed: int | None):
        self._members = np.argsort(class_of, kind="stable").astype(np.int32)  # class by class
        self._sizes = np.bincount(class_of)
        self._begins = _before(self._sizes)
        self._seed = seed

    def take(self, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The examples at `counts` positions from `starts` on in the endless list of each class.

        Returns:
          int32 of shape (sum of counts,), one class after the other.
        """
        class_of, place = _repeated(counts)
        first_pass, start = np.divmod(starts, self._sizes)
        if self._seed is None:
            return self._members[self._begins[class_of] + (start[class_of] + place) % self._sizes[class_of]]
        num_passes = np.where(counts > 0, -(-(start + counts) // self._sizes), 0)
        pass_class, later = _repeated(num_passes)
        pass_of, place_in_pass = _repeated(self._sizes[pass_class])
        examples = self._members[self._begins[pass_class][pass_of] + place_in_pass]
        bits = _scrambled(_scrambled(self._seed, first_pass[pass_class] + later)[pass_of], examples)
        keys = (pass_of.astype(np.uint64) << np.uint64(32)) | (bits >> np.uint64(32))
        listed = examples[np.argsort(keys, kind="stable")]
        begins = _before(num_passes * self._sizes)
        return listed[(begins + start)[class_of] + place]


def _scrambled(base: int | np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Random bits of each number, uint64: SplitMix64, whose arithmetic no version of NumPy changes.

    Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.
    """
    steps = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    bits = np.asarray(base, np.uint64) + steps
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _repeated(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each place as often as its count says, and beside each the number of that repetition, from 0."""
    places = np.repeat(np.arange(len(counts)), counts)
    return places, np.arange(len(places)) - _before(counts)[places]


def _before(counts: np.ndarray) -> np.ndarray:
    """The sum of the counts before each."""
    return np.cumsum(counts) - counts
