"""An order in which every class comes equally often."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from fourbeat.data.interleaving import Passes, checked_num_examples, interleaved
from fourbeat.data.order import Order, PerEpoch, Remainder, StepOrder, check_one_an_example


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
        by_class = np.argsort(self._class_of, kind="stable").astype(np.int32)
        members = np.split(by_class, np.cumsum(np.bincount(self._class_of))[:-1])
        # passes through a rare class are short, and a stream of its own for each would cost 10 us
        drawn_at_once = min(4096, len(self._class_of) // len(members))
        parts = [_passes(each, drawn_at_once, seed, place, shuffle) for place, each in enumerate(members)]
        share = Fraction(1, len(parts))
        return interleaved(parts, [share] * len(parts), self._num_examples, batch_size, remainder)

    def __repr__(self) -> str:
        return f"balanced({len(self._class_of)} labels of {len(self._classes)} classes)"


def balanced(labels: Sequence[Any] | np.ndarray, num_examples: int | None = None) -> Order:
    """An order in which every class comes equally often: for `batches(order=)`.

    The classes take turns, so a batch holds each of them equally often too, to within one. Each class is
    gone through again and again, all of its examples before one comes twice, and the next epoch goes on where
    this one ended. So those of a rare class repeat within an epoch, those of a frequent one take several.
    With `shuffle` each pass through a class is permuted anew; without it, it is in the order of the data.

    Args:
      labels: whole numbers, bools or strings, one an example of the data: of a part where the data is one.
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


def _passes(members: np.ndarray, drawn_at_once: int, seed: int, place: int, shuffle: bool) -> Passes:
    """Passes through a class, several of them drawn at once where it is small."""
    num_passes = max(1, drawn_at_once // len(members))

    def draw(number: int) -> np.ndarray:
        # the stream is frozen for ever (NEP 19)
        keys = np.random.RandomState([seed, place, number]).random_sample((num_passes, len(members)))
        return members[np.argsort(keys, axis=1, kind="stable")].reshape(-1)

    if shuffle:
        return Passes(num_passes * len(members), PerEpoch(draw))
    in_turn = np.tile(members, num_passes)
    return Passes(len(in_turn), lambda number: in_turn)
