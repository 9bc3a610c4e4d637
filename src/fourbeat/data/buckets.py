"""An order by length: each batch holds examples of one bucket."""

from collections.abc import Sequence

import numpy as np

from fourbeat.data.collating import ascending
from fourbeat.data.order import Order, PerEpoch, Remainder, StepOrder, check_one_an_example


class ByLength:
    """An `Order` by length: made by `by_length`."""

    def __init__(self, lengths: np.ndarray, bounds: tuple[int, ...]):
        self._lengths = lengths
        self._bounds = bounds

    def of(
        self, num_examples: int, batch_size: int, *, shuffle: bool, seed: int, remainder: Remainder
    ) -> StepOrder:
        """See `Order.of`."""
        check_one_an_example("by_length", "lengths", len(self._lengths), num_examples)
        bucket_of = np.searchsorted(self._bounds, self._lengths)
        buckets = [np.flatnonzero(bucket_of == i).astype(np.int32) for i in range(len(self._bounds))]
        for i, bucket in enumerate(buckets):
            if remainder == "drop" and 0 < len(bucket) < batch_size:
                least = self._bounds[i - 1] + 1 if i else 0
                raise ValueError(
                    f"by_length(...) has {len(bucket)} examples of lengths {least} to {self._bounds[i]}, "
                    f"fewer than batch_size {batch_size}, so remainder='drop' would never show one of them. "
                    "Use remainder='pad', a smaller batch_size, or wider bounds."
                )
        return Bucketed([bucket for bucket in buckets if len(bucket)], batch_size, shuffle, seed, remainder)

    def __repr__(self) -> str:
        return f"by_length({len(self._lengths)} lengths, bounds={self._bounds})"


def by_length(lengths: Sequence[int] | np.ndarray, bounds: Sequence[int] = (64, 128, 256)) -> Order:
    """An order in which each batch holds examples of one bucket, so that little of it is padding.

    For `batches(order=)`, beside a `collate=pad_to(...)` of the same bounds: batches then have as many shapes
    as there are buckets. Each example comes once an epoch. With `shuffle` each epoch permutes the examples
    within their bucket and the order of all batches, both anew; without it the buckets come one after the
    other, the shortest first. The last batch of each bucket is filled with examples of weight 0 from the same
    bucket, or left out with `remainder="drop"` (then others are left out in each epoch).

    Args:
      lengths: whole numbers, one an example of the data: of a part where the data is one.
      bounds: the greatest length of each bucket; a bucket begins above the bound before.

    Raises:
      ValueError: a length is negative or above the last bound, or a bound is below 1; when used, the number
        of lengths is not that of the examples.

    >>> from fourbeat.data import Arrays
    >>> batches = Arrays(x=range(5)).batches(2, order=by_length([3, 9, 2, 8, 1], bounds=(4, 16)))
    >>> [batches.numbers_of(step) for step in range(3)]
    [[0, 2], [4], [1, 3]]
    """
    ends = ascending("bounds", bounds)
    given = np.asarray(lengths)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise ValueError(
            f"lengths is {given.dtype} of shape {given.shape}; expected whole numbers, one an example."
        )
    bad = np.flatnonzero((given < 0) | (given > ends[-1]))
    if len(bad):
        raise ValueError(
            f"example {bad[0]} has length {given[bad[0]]}, one of {len(bad)} that are not from 0 to "
            f"{ends[-1]}, the last of the bounds. Cut them, leave them out, or add a bound: "
            f"bounds=(..., {max(given.max(), ends[-1])})."
        )
    return ByLength(given, ends)


class Bucketed:
    """A `StepOrder` in which each step holds examples of one bucket.

    Args:
      buckets: the numbers of the examples of each, int32; none of them empty.
      batch_size: examples a batch.
      shuffle: whether examples and steps are permuted anew each epoch.
      seed: of the permutations.
      remainder: of each bucket.
    """

    is_in_turn = False

    def __init__(
        self, buckets: list[np.ndarray], batch_size: int, shuffle: bool, seed: int, remainder: Remainder
    ):
        self._buckets, self._shuffle, self._seed = buckets, shuffle, seed
        steps = [_steps_of(bucket, batch_size, remainder) for bucket in buckets]
        # the sizes of all steps, those of the first bucket first
        self._bucket_sizes = np.concatenate(steps)
        self._num_steps_of = [len(sizes) for sizes in steps]
        self._batch_size = batch_size
        self.num_steps = len(self._bucket_sizes)
        self.num_examples = int(self._bucket_sizes.sum())
        self.dropped = sum(map(len, buckets)) - self.num_examples
        self.is_padded = self.num_steps * batch_size > self.num_examples
        self._index = PerEpoch(self._drawn_index)
        self._sizes = PerEpoch(self._drawn_sizes)
        self._before = PerEpoch(lambda epoch: np.concatenate([[0], np.cumsum(self.sizes(epoch))]))

    def index(self, epoch: int) -> np.ndarray:
        """See `StepOrder.index`."""
        return self._index(epoch if self._shuffle else 0)

    def sizes(self, epoch: int) -> np.ndarray:
        """See `StepOrder.sizes`."""
        return self._sizes(epoch if self._shuffle else 0)

    def examples_before(self, epoch: int, place: int) -> int:
        """See `StepOrder.examples_before`."""
        return int(self._before(epoch if self._shuffle else 0)[place])

    def _drawn_sizes(self, epoch: int) -> np.ndarray:
        return self._bucket_sizes[self._drawn_steps(self._stream(epoch))]

    def _drawn_index(self, epoch: int) -> np.ndarray:
        stream = self._stream(epoch)
        steps = self._drawn_steps(stream)
        filled = []
        for bucket, num_steps in zip(self._buckets, self._num_steps_of, strict=True):
            examples = stream.permutation(bucket) if self._shuffle else bucket
            filled.append(np.resize(examples, (num_steps, self._batch_size)))
        return np.concatenate(filled)[steps]

    def _stream(self, epoch: int) -> np.random.RandomState:
        return np.random.RandomState([self._seed, epoch])  # frozen for ever (NEP 19)

    def _drawn_steps(self, stream: np.random.RandomState) -> np.ndarray:
        """The first draw of an epoch's stream: which step comes when."""
        steps = np.arange(self.num_steps)
        return stream.permutation(steps) if self._shuffle else steps


def _steps_of(bucket: np.ndarray, batch_size: int, remainder: Remainder) -> np.ndarray:
    num_whole, rest = divmod(len(bucket), batch_size)
    sizes = [batch_size] * num_whole
    return np.asarray([*sizes, rest] if rest and remainder == "pad" else sizes)
