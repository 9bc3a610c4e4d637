"""What is said of measured rounds: quantiles, and ratios pair by pair with an interval."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
COVERAGE = 0.95


class Ratio(NamedTuple):
    """The median of pairwise ratios, and its bootstrap interval of 95 %."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def ratio(seconds: Sequence[float], others: Sequence[float], *, seed: int = 0) -> Ratio:
    """One side over another, round by round, so that what slows a whole round down cancels.

    Args:
      seconds: of each round of one side.
      others: of the same rounds of the other side.
      seed: of the resampling, so that the same rounds always give the same interval.

    Returns:
      The median of the ratios, and the 2.5 % and 97.5 % quantiles of the medians of 10,000 resamples of the
      rounds with replacement (the percentile bootstrap; B. Efron, Bootstrap Methods, Annals of Statistics 7,
      1979).

    Raises:
      ValueError: the sides have different numbers of rounds, or none.

    >>> ratio([2.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    Ratio(median=2.0, low=2.0, high=3.0)
    """
    if len(seconds) != len(others) or not len(seconds):
        raise ValueError(f"cannot pair {len(seconds)} rounds with {len(others)}: each side needs as many.")
    return _interval(np.asarray(seconds, float) / np.asarray(others, float), seed)


def difference(seconds: Sequence[float], others: Sequence[float], *, seed: int = 0) -> Ratio:
    """One side less another, round by round, with the same interval; the unit is that of the rounds."""
    return _interval(np.asarray(seconds, float) - np.asarray(others, float), seed)


def quantile(values: Sequence[float], q: float) -> float:
    """The quantile `q` of `values`, from 0 to 1, interpolated linearly."""
    return float(np.quantile(np.asarray(values, float), q))


def _interval(pairs: np.ndarray, seed: int) -> Ratio:
    drawn = np.random.RandomState(seed).randint(0, len(pairs), (RESAMPLES, len(pairs)))
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(np.median(pairs[drawn], axis=1), [tail, 1 - tail])
    return Ratio(float(np.median(pairs)), float(low), float(high))
