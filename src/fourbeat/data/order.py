"""The order in which an epoch visits the examples: a pure function of seed and epoch."""

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

import numpy as np

Remainder: TypeAlias = Literal["pad", "drop"]


class StepOrder(Protocol):
    """Which examples each step holds: a pure function of the global step.

    Attributes:
      num_steps: steps of an epoch.
      num_examples: examples that an epoch visits, padding not counted; the same in every epoch.
      dropped: examples that an epoch leaves out.
      is_padded: whether a batch can hold padding; every batch then has a weight.
      is_in_turn: whether every epoch visits the examples 0, 1, 2, ... in turn.
    """

    num_steps: int
    num_examples: int
    dropped: int
    is_padded: bool
    is_in_turn: bool

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
    """An order of any data set, for `batches(order=)`.

    A class of yours with this one method is an order: it says which examples each step holds, and that may
    depend on seed and epoch alone.

    >>> import numpy as np
    >>> from fourbeat.data import Arrays
    >>> from fourbeat.data.order import Drawn
    >>> class Backwards:
    ...     def of(self, num_examples, batch_size, *, shuffle, seed, remainder):
    ...         draw = lambda epoch: np.arange(num_examples, dtype=np.int32)[::-1].copy()
    ...         return Drawn(num_examples, batch_size, remainder, draw)
    >>> Arrays(x=range(4)).batches(2, order=Backwards())[0]["x"].tolist()
    [3, 2]
    """

    def of(
        self, num_examples: int, batch_size: int, *, shuffle: bool, seed: int, remainder: Remainder
    ) -> StepOrder:
        """The order of so many examples.

        Args:
          num_examples: from 1 to 2**31 - 1.
          batch_size: examples a batch, at least 1.
          shuffle: whether each epoch is permuted anew.
          seed: an int from 0 to 2**32 - 1.
          remainder: what becomes of examples that fill no whole batch.
        """
        ...


class Permutation:
    """Each example once an epoch, in an order drawn anew from (seed, epoch), or in that of the data."""

    def of(
        self, num_examples: int, batch_size: int, *, shuffle: bool, seed: int, remainder: Remainder
    ) -> StepOrder:
        """See `Order.of`."""
        draw = permuted(num_examples, seed) if shuffle else None
        return Drawn(num_examples, batch_size, remainder, draw)


class Drawn:
    """A `StepOrder` of one list of examples an epoch; only its last batch can be short.

    Args:
      num_examples: how long the list is.
      batch_size: examples a batch.
      remainder: "pad" repeats the epoch's first examples as padding; "drop" leaves the last ones out.
      draw: the examples of an epoch in their order, int32 of shape (num_examples,); by default 0, 1, 2, ...

    Raises:
      ValueError: with "drop" no whole batch is left.
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        remainder: Remainder,
        draw: Callable[[int], np.ndarray] | None = None,
    ):
        self._batch_size = batch_size
        self.num_examples = num_in_batches(num_examples, batch_size, remainder)
        self.dropped = num_examples - self.num_examples
        self.num_steps = -(-self.num_examples // batch_size)
        self.is_padded = self.num_steps * batch_size > self.num_examples
        self.is_in_turn = draw is None
        self._draw = draw or (lambda epoch: np.arange(num_examples, dtype=np.int32))
        self._cached = PerEpoch(self._steps)
        before = np.minimum(np.arange(self.num_steps + 1) * batch_size, self.num_examples)
        self._sizes = np.diff(before)
        self._sizes.setflags(write=False)

    def index(self, epoch: int) -> np.ndarray:
        """See `StepOrder.index`."""
        return self._cached(0 if self.is_in_turn else epoch)

    def sizes(self, epoch: int) -> np.ndarray:
        """See `StepOrder.sizes`."""
        return self._sizes

    def examples_before(self, epoch: int, place: int) -> int:
        """See `StepOrder.examples_before`."""
        return min(place * self._batch_size, self.num_examples)

    def _steps(self, epoch: int) -> np.ndarray:
        shape = self.num_steps, self._batch_size
        return np.resize(self._draw(epoch), shape)


class CheckedSteps:
    """A `StepOrder` of a user's, of which each array is checked: a gather does not check its numbers.

    Args:
      order: as `Order.of` gave it.
      name: how errors name it.
      num_examples: of the data.
      batch_size: examples a batch.
    """

    def __init__(self, order: StepOrder, name: str, num_examples: int, batch_size: int):
        self.num_steps, self.num_examples, self.dropped = order.num_steps, order.num_examples, order.dropped
        self.is_padded, self.is_in_turn = order.is_padded, order.is_in_turn
        self.examples_before = order.examples_before
        self._order, self._name = order, name
        self._size, self._batch_size = num_examples, batch_size
        self._seen_index: np.ndarray | None = None
        self._seen_sizes: np.ndarray | None = None

    def index(self, epoch: int) -> np.ndarray:
        """See `StepOrder.index`."""
        index = self._order.index(epoch)
        if index is not self._seen_index:
            shape = self.num_steps, self._batch_size
            if index.dtype != np.int32 or index.shape != shape:
                seen = f"{index.dtype} of shape {index.shape}"
                raise self._error(epoch, "index", seen, f"int32 of shape {shape}")
            if index.size and (index.min() < 0 or index.max() >= self._size):
                span = f"numbers from {index.min()} to {index.max()}"
                raise self._error(epoch, "index", span, f"0 to {self._size - 1}, those of the examples")
            self.sizes(epoch)  # this is not called where there is no padding
            self._seen_index = index
        return index

    def sizes(self, epoch: int) -> np.ndarray:
        """See `StepOrder.sizes`."""
        sizes = self._order.sizes(epoch)
        if sizes is not self._seen_sizes:
            least = 0 if self.is_padded else self._batch_size
            are_sizes = sizes.shape == (self.num_steps,) and sizes.min() >= least
            if not are_sizes or sizes.max() > self._batch_size or sizes.sum() != self.num_examples:
                wanted = f"{self.num_steps} sizes from {least} to {self._batch_size}"
                raise self._error(
                    epoch, "sizes", f"{sizes}", f"{wanted}, in all num_examples={self.num_examples}"
                )
            self._seen_sizes = sizes
        return sizes

    def _error(self, epoch: int, what: str, seen: str, wanted: str) -> ValueError:
        return ValueError(f"order={self._name}: {what}({epoch}) is {seen}; expected {wanted}.")


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


def num_in_batches(num_examples: int, batch_size: int, remainder: Remainder) -> int:
    """How many of so many examples the batches hold: "drop" leaves out those that fill no whole batch.

    Raises:
      ValueError: none is left.
    """
    if remainder == "pad":
        return num_examples
    if batch_size > num_examples:
        raise ValueError(
            f"batch_size {batch_size} is larger than the {num_examples} examples, so remainder='drop' "
            f"would leave no batch. Use batch_size <= {num_examples}, or remainder='pad'."
        )
    return num_examples - num_examples % batch_size


def check_one_an_example(order: str, what: str, number: int, num_examples: int) -> None:
    """Whether an order was given one of its values for each example.

    Raises:
      ValueError: it was not.
    """
    if number != num_examples:
        raise ValueError(
            f"{order}(...) has {number} {what} and the data has {num_examples} examples. Give one an "
            "example, in the order of the data; of a part, those of that part: "
            f"fourbeat.data.Arrays({what}=...) is split and sliced as the data is."
        )


def permuted(num_examples: int, seed: int) -> Callable[[int], np.ndarray]:
    """A function that draws an epoch's permutation, int32 of shape (num_examples,), from seed and epoch."""

    def draw(epoch: int) -> np.ndarray:
        # RandomState's stream is frozen for ever (NEP 19); that of numpy.random.Generator may
        # change with NumPy, and a resumed run would then see other batches.
        return np.random.RandomState([seed, epoch]).permutation(np.arange(num_examples, dtype=np.int32))

    return draw
