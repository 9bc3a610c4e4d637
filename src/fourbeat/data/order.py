"""The order in which an epoch visits the examples: a pure function of seed and epoch."""

import numpy as np


class EpochOrder:
    """Places of the examples of each epoch, permuted anew from (seed, epoch), or in their own order.

    Args:
      num_examples: number of examples.
      length: examples that an epoch visits; beyond `num_examples` the epoch's order repeats from its start.
      shuffle: whether to permute.
      seed: an int from 0 to 2**32 - 1.
    """

    def __init__(self, num_examples: int, length: int, *, shuffle: bool, seed: int):
        self._num_examples = num_examples
        self._length = length
        self._shuffle = shuffle
        self._seed = seed
        # One slot for even epochs, one for odd: a prefetcher that crosses into the next epoch does
        # not evict this one. A slot is replaced whole, so threads see either the old or the new.
        self._slots: list[tuple[int, np.ndarray]] = [(-1, np.empty(0, np.int32))] * 2

    def __call__(self, epoch: int) -> np.ndarray:
        """Places of the examples of `epoch` in the order visited: int32 of shape (length,), read-only.

        Raises:
          IndexError: the epoch is beyond the last that has an order of its own.
        """
        if not self._shuffle:
            epoch = 0
        if epoch >= 2**32:
            raise IndexError(f"epoch {epoch} has no order: shuffled epochs are numbered from 0 to 2**32 - 1.")
        cached_epoch, order = self._slots[epoch % 2]
        if cached_epoch != epoch:
            order = self._order(epoch)
            self._slots[epoch % 2] = (epoch, order)
        return order

    def _order(self, epoch: int) -> np.ndarray:
        order = np.arange(self._num_examples, dtype=np.int32)
        if self._shuffle:
            # RandomState's stream is frozen for ever (NEP 19); that of numpy.random.Generator may
            # change with NumPy, and a resumed run would then see other batches.
            order = np.random.RandomState([self._seed, epoch]).permutation(order)
        order = np.resize(order, self._length)
        order.setflags(write=False)
        return order
