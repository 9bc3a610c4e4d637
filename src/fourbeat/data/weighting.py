"""An order of draws with replacement, by weights."""

from collections.abc import Sequence

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


class Weighted:
    """An `Order` of draws by weights: made by `weighted`."""

    def __init__(self, weights: np.ndarray, num_examples: int | None):
        self._num_weights = len(weights)
        self._num_examples = checked_num_examples("weighted(...)", num_examples, len(weights))
        # scaled by the largest, so that no sum overflows
        summed = np.cumsum(weights / weights.max())
        self._ends = summed / summed[-1]

    def of(
        self, num_examples: int, batch_size: int, *, shuffle: bool, seed: int, remainder: Remainder
    ) -> StepOrder:
        """See `Order.of`."""
        check_one_an_example("weighted", "weights", self._num_weights, num_examples)
        number = num_in_batches(self._num_examples, batch_size, remainder)

        def draw(epoch: int) -> np.ndarray:
            drawn = np.random.RandomState([seed, epoch]).random_sample(number)  # frozen for ever (NEP 19)
            # the first whose end lies beyond the draw: an example of weight 0 has none of its own
            return np.searchsorted(self._ends, drawn, side="right").astype(np.int32)

        return Drawn(number, batch_size, remainder, draw)

    def __repr__(self) -> str:
        return f"weighted({self._num_weights} weights)"


def weighted(weights: Sequence[float] | np.ndarray, num_examples: int | None = None) -> Order:
    """An order of draws with replacement, each example in proportion to its weight: for `batches(order=)`.

    Every draw is independent of the others, so an example may come several times in an epoch, or not at all,
    and one of weight 0 never comes. The draws depend on seed and epoch; `shuffle` changes nothing.

    Args:
      weights: finite numbers of at least 0, one an example of the data: of a part where the data is one.
      num_examples: draws an epoch; by default as many as there are weights. `remainder="drop"` rounds them
        down to whole batches.

    Raises:
      ValueError: a weight is negative or not finite, or all are 0; when used, the number of weights is not
        that of the examples.

    >>> from fourbeat.data import Arrays
    >>> batches = Arrays(x=range(4)).batches(8, order=weighted([0, 1, 0, 3], num_examples=8), seed=0)
    >>> len(batches), batches.numbers_of(0)
    (1, [1, 1, 1, 1, 3, 3, 1, 3])
    """
    given = np.asarray(weights, np.float64)
    if given.ndim != 1 or not len(given):
        raise ValueError(f"weights has shape {given.shape}; expected one number an example.")
    bad = np.flatnonzero(~(np.isfinite(given) & (given >= 0)))
    if len(bad):
        raise ValueError(
            f"the weight of example {bad[0]} is {given[bad[0]]}, one of {len(bad)} that are negative or not "
            "finite. A weight says how often an example is drawn beside the others: give a number of at "
            "least 0."
        )
    if not given.any():
        raise ValueError(
            "all weights are 0, so no example could be drawn. Give one of them a weight above 0."
        )
    return Weighted(given, num_examples)
