"""The order in which an epoch visits the examples: a pure function of seed and epoch."""

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

import numpy as np

Remainder: TypeAlias = Literal["pad", "drop"]


class StepOrder(Protocol):
    """Which examples each step holds: a pure function of the global step.

    Attributes:
      num_steps: steps of an epoch.
      num_examples: examples that an epoch visits, padding not counted.
      dropped: examples that an epoch leaves out.
      is_padded: whether a batch can hold padding; every batch then has a weight.
    """

    num_steps: int
    num_examples: int
    dropped: int
    is_padded: bool

    def index(self, epoch: int, /) -> np.ndarray:
        """Examples of each step, those of padding last: int32 of shape (num_steps, batch_size), read-only."""
        ...

    def sizes(self, epoch: int, /) -> np.ndarray:
        """How many examples of each step are no padding: int of shape (num_steps,), read-only."""
        ...

    def examples_before(self, epoch: int, place: int, /) -> int:
        """How many examples the first `place` steps of an epoch hold, padding not counted."""
        ...


class Order(Protocol):
    """An order of any data set, for `batches(order=)`."""

    def of(self, num_examples: int, batch_size: int, *, seed: int, remainder: Remainder) -> StepOrder:
        """The order of so many examples.

        Args:
          num_examples: from 1 to 2**31 - 1.
          batch_size: examples a batch, at least 1.
          seed: an int from 0 to 2**32 - 1.
          remainder: what becomes of examples that fill no whole batch.
        """
        ...


class Permutation:
    """Each example once an epoch, in an order drawn anew from (seed, epoch), or in that of the data."""

    def __init__(self, *, shuffle: bool):
        self._shuffle = shuffle

    def of(self, num_examples: int, batch_size: int, *, seed: int, remainder: Remainder) -> StepOrder:
        """See `Order.of`."""
        draw = _permuted(num_examples, seed) if self._shuffle else None
        return EachOnce(num_examples, batch_size, remainder, draw)


class EachOnce:
    """A `StepOrder` that visits each example once an epoch; only its last batch can be short.

    Args:
      num_examples: of the data.
      batch_size: examples a batch.
      remainder: "pad" repeats the epoch's first examples as padding; "drop" leaves the last ones out.
      draw: the examples of an epoch in their order, int32 of shape (num_examples,); by default 0, 1, 2, ...
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        remainder: Remainder,
        draw: Callable[[int], np.ndarray] | None = None,
    ):
        self._batch_size = batch_size
        self.dropped = num_examples % batch_size if remainder == "drop" else 0
        self.num_examples = num_examples - self.dropped
        self.num_steps = -(-self.num_examples // batch_size)
        self.is_padded = self.num_steps * batch_size > self.num_examples
        self._in_turn = draw is None
        self._draw = draw or (lambda epoch: np.arange(num_examples, dtype=np.int32))
        self._cached = PerEpoch(self._steps)
        before = np.minimum(np.arange(self.num_steps + 1) * batch_size, self.num_examples)
        self._sizes = np.diff(before)
        self._sizes.setflags(write=False)

    def index(self, epoch: int) -> np.ndarray:
        """See `StepOrder.index`."""
        return self._cached(0 if self._in_turn else epoch)

    def sizes(self, epoch: int) -> np.ndarray:
        """See `StepOrder.sizes`."""
        return self._sizes

    def examples_before(self, epoch: int, place: int) -> int:
        """See `StepOrder.examples_before`."""
        return min(place * self._batch_size, self.num_examples)

    def _steps(self, epoch: int) -> np.ndarray:
        shape = self.num_steps, self._batch_size
        return np.resize(self._draw(epoch), shape)


class PerEpoch:
    """Keeps what was computed for the last even and the last odd epoch.

    So a reader that crosses into the next epoch does not evict this one. A slot is replaced whole: threads
    see either the old or the new.

    Args:
      compute: the array of an epoch, which becomes read-only.
    """

    def __init__(self, compute: Callable[[int], np.ndarray]):
        self._compute = compute
        self._slots: list[tuple[int, np.ndarray]] = [(-1, np.empty(0, np.int32))] * 2

    def __call__(self, epoch: int) -> np.ndarray:
        """The array of `epoch`.

        Raises:
          IndexError: the epoch is beyond the last that has an order of its own.
        """
        if epoch >= 2**32:
            raise IndexError(f"epoch {epoch} has no order: shuffled epochs are numbered from 0 to 2**32 - 1.")
        cached_epoch, array = self._slots[epoch % 2]
        if cached_epoch != epoch:
            array = self._compute(epoch)
            array.setflags(write=False)
            self._slots[epoch % 2] = (epoch, array)
        return array


def _permuted(num_examples: int, seed: int) -> Callable[[int], np.ndarray]:
    def draw(epoch: int) -> np.ndarray:
        # RandomState's stream is frozen for ever (NEP 19); that of numpy.random.Generator may
        # change with NumPy, and a resumed run would then see other batches.
        return np.random.RandomState([seed, epoch]).permutation(np.arange(num_examples, dtype=np.int32))

    return draw
