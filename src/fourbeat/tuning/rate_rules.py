"""Rules that read a learning rate from the losses of a range test."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Rule(NamedTuple):
    """A rule and where it is from.

    Attributes:
      place: `place(smoothed losses) -> index`, of the point that it picks; None where there is none.
      text: what it picks and who described it, in a sentence.
    """

    place: Callable[[np.ndarray], int | None]
    text: str


def smoothed(losses: np.ndarray) -> np.ndarray:
    """A running mean with weights of a bell, three hundredths of all points wide, that does not lag behind.

    >>> smoothed(np.array([1.0, 1.0, 1.0])).tolist()
    [1.0, 1.0, 1.0]
    """
    places = np.arange(len(losses))
    width = max(0.03 * len(losses), 1.0)
    bells = np.exp(-0.5 * ((places[:, None] - places) / width) ** 2)
    return (bells @ losses) / bells.sum(1)


def valley(losses: np.ndarray) -> int | None:
    """The point two thirds of the way down from where the loss begins to fall; None without a fall.

    The rate grows by the same factor from point to point, so the way is measured in its logarithm. A fall
    begins where a twentieth of it has passed, and ends where a tenth is left: the flat parts, of rates that
    do nothing and of rates that are nearly too large, are no part of it.

    >>> valley(np.array([9.0, 9.0, 8.0, 6.0, 3.0, 2.0, 4.0]))
    4
    """
    before = losses[: int(np.argmin(losses)) + 1]
    ends = int(np.flatnonzero(before <= before.min() + 0.1 * np.ptp(before))[0])
    begins = int(np.flatnonzero(before[: ends + 1] >= before.max() - 0.05 * np.ptp(before))[-1])
    return None if ends - begins < 2 else begins + round(2 / 3 * (ends - begins))


def steepest(losses: np.ndarray) -> int | None:
    """The point at which the loss falls fastest, before its lowest; None where it never falls.

    >>> steepest(np.array([9.0, 9.0, 8.0, 5.0, 3.0, 2.5, 4.0]))
    3
    """
    lowest = int(np.argmin(losses))
    if lowest < 2:
        return None
    slopes = np.gradient(losses)[: lowest + 1]
    return int(np.argmin(slopes)) if slopes.min() < 0 else None


RULES = {
    "valley": Rule(
        valley,
        "two thirds of the way, in the logarithm of the rate, down from where the smoothed loss begins to "
        "fall (after the 'valley' of fastai's learning rate finder)",
    ),
    "steepest": Rule(
        steepest,
        "the point at which the smoothed loss falls fastest (the 'steepest' of fastai's and Lightning's "
        "finders, after Smith, Cyclical Learning Rates for Training Neural Networks, 2015)",
    ),
}
