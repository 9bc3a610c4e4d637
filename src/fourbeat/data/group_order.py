"""An order for examples that lie in groups, each of which is costly to read."""

from collections.abc import Callable

import numpy as np

from fourbeat.data.order import Drawn, Remainder, StepOrder


class ByGroups:
    """Each example once an epoch; a shuffle visits the groups in a drawn order and mixes a few at a time.

    At any place of an epoch the examples come from at most `mixed` groups, so a reader that keeps these reads
    nearly all groups once. The groups lie in a ring: those that an epoch begins with come again at its end,
    and its first batches are mixed as well as all others. Where there are no more than `mixed` groups, it is
    a permutation of all examples.

    Args:
      group_of: gives the group of each example, int of shape (n,); asked where there is a shuffle.
      mixed: how many groups are mixed, at least 1.
    """

    def __init__(self, group_of: Callable[[], np.ndarray], mixed: int):
        self._group_of, self._mixed = group_of, mixed

    def of(
        self, num_examples: int, batch_size: int, *, shuffle: bool, seed: int, remainder: Remainder
    ) -> StepOrder:
        """See `Order.of`."""
        if not shuffle:
            return Drawn(num_examples, batch_size, remainder)
        groups, group_of = np.unique(self._group_of(), return_inverse=True)
        mixed = min(self._mixed, len(groups))

        def draw(epoch: int) -> np.ndarray:
            stream = np.random.RandomState([seed, epoch])  # frozen for ever (NEP 19)
            rank = stream.permutation(len(groups))[group_of]
            place = (rank + mixed * stream.random_sample(num_examples)) % len(groups)
            return np.argsort(place, kind="stable").astype(np.int32)

        return Drawn(num_examples, batch_size, remainder, draw)
