"""Sources that can give the batch of any step by its number."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from fourbeat.compiling.blocks import Block
from fourbeat.data.agreeing import Agreement
from fourbeat.data.batches import Batches
from fourbeat.data.own_batches import checked_batch, own_batch
from fourbeat.data.plain_batches import PlainSequence, count_examples, no_batch
from fourbeat.data.reading_ahead import AtOnce, ReadingAhead
from fourbeat.looping.block_filling import BlockFilling
from fourbeat.trees.example_counts import has_axes
from fourbeat.types import BatchSource


class BatchesByStep(Protocol):
    """Data whose batch is a function of the global step, as in `fourbeat.data.Batches`.

    If your class has these four methods, a loop over it resumes exactly and knows its marks and its end in
    advance. `fourbeat.loop` uses what they return as it is, without a check or a copy.

    >>> import numpy as np, fourbeat as fb
    >>> class Counted:
    ...     def __len__(self):
    ...         return 2
    ...
    ...     def __getitem__(self, step):
    ...         return {"x": np.full(3, step)}
    ...
    ...     def examples(self, step):
    ...         return 3 * step
    ...
    ...     def stacked(self, step, num_steps, size):
    ...         steps = np.minimum(np.arange(step, step + size), step + num_steps - 1)
    ...         return {"x": np.stack([self[step]["x"] for step in steps])}
    >>> for tick in fb.loop(Counted(), start=1, until=fb.at(epochs=2)):
    ...     print(tick.step, tick.batch["x"].tolist(), tick.examples, tick.epoch)
    2 [1, 1, 1] 6 1
    3 [2, 2, 2] 9 1
    4 [3, 3, 3] 12 2
    """

    def __len__(self) -> int:
        """The number of steps of an epoch."""
        ...

    def __getitem__(self, step: int, /) -> Any:
        """The batch of a global step; the first step is 0."""
        ...

    def examples(self, step: int, /) -> int:
        """The number of examples in the steps from 0 up to `step`, without `step` itself."""
        ...

    def stacked(self, step: int, num_steps: int, size: int, /) -> Any:
        """The batches of `num_steps` steps from `step` on, stacked to a leading axis of `size`."""
        ...


class Indexed(Protocol):
    """A source that can give the batch of any step."""

    steps_per_epoch: int

    def examples(self, step: int, /) -> int:
        """Examples in the first `step` steps."""
        ...

    def batch(self, step: int, /) -> Any:
        """The batch of the step after `step` steps."""
        ...

    def block(self, step: int, num_steps: int, size: int, /) -> tuple[Block, int]:
        """A block of at most `num_steps` batches from `step` on, and how many batches it holds."""
        ...


class StepSource:
    """Batches that know what each step holds; the loop gets them as they are.

    Attributes:
      placed: lays a batch, or a block, out over the processes that train together; None where one trains.
    """

    def __init__(self, batches: BatchesByStep, placed: Callable[[Any], Any] | None = None):
        self.placed = placed
        self.steps_per_epoch = _checked_length(batches)
        self.examples = batches.examples
        self.batch = batches.__getitem__
        self._batches = batches
        self._reading: AtOnce | ReadingAhead | None = None

    @contextmanager
    def reading(self, start: int, end: int | None, should_stop: Callable[[], bool]) -> Iterator[None]:
        """Reads batches ahead while entered, if the batches ask for it. A stop ends the wait for a batch."""
        if not isinstance(self._batches, Batches):
            yield
            return
        with self._batches.reading(start, end) as reading:
            reading.should_stop = should_stop
            self.batch, self._reading = reading.batch, reading
            yield

    @property
    def wait_s(self) -> float:
        """Seconds that the loop has waited for its data."""
        return 0.0 if self._reading is None else self._reading.wait_s

    def block(self, step: int, num_steps: int, size: int) -> tuple[Block, int]:
        """A block of `num_steps` batches, or of fewer if the next one has another shape."""
        if self._reading is None:
            stacked = self._batches.stacked(step, num_steps, size)
        else:
            stacked, num_steps = self._reading.block(step, num_steps, size)
        return Block(stacked, np.asarray(num_steps, dtype=np.int32)), num_steps


class SequenceSource:
    """A sequence of plain batches. It is repeated, unless it accepts any step as an index.

    Examples are counted when batches are read, so counting up to a later step reads the batches before it.

    Attributes:
      placed: as that of `StepSource`.
    """

    def __init__(
        self,
        batches: Sequence[Any],
        agreement: Agreement | None = None,
        placed: Callable[[Any], Any] | None = None,
    ):
        self.placed = placed
        self._agreement = agreement
        self.steps_per_epoch = _checked_length(batches)
        if agreement is not None:
            self.steps_per_epoch = agreement.of_length(self.steps_per_epoch) or 0
        self._batches = PlainSequence(batches)
        self._examples_before = [0]
        self._in_memory = isinstance(batches, list | tuple)
        self.wait_s = 0.0

    def examples(self, step: int) -> int:
        """Examples in the first `step` steps."""
        num_passes, rest = divmod(step, self.steps_per_epoch)
        total = self._count(self.steps_per_epoch) if num_passes else 0
        num_parts = 1 if self._agreement is None else self._agreement.num_parts
        return num_parts * (num_passes * total + self._count(rest))

    def batch(self, step: int) -> Any:
        """The batch of the step after `step` steps, in memory of its own."""
        return own_batch(self._read(step))

    def block(self, step: int, num_steps: int, size: int) -> tuple[Block, int]:
        """A block of the batches from `step` on that are alike."""
        filling = BlockFilling(self._read(step), size)
        while filling.num_steps < num_steps:
            batch = self._read(step + filling.num_steps)
            if not filling.takes(batch):
                break
            filling.add(batch)
        return filling.block(), filling.num_steps

    def _read(self, step: int) -> Any:
        """A batch that was checked; its memory is the user's."""
        index = step % self.steps_per_epoch
        begin_s = time.perf_counter()
        item = self._batches[step if self._batches.takes_any_step else index]
        if not self._in_memory:
            self.wait_s += time.perf_counter() - begin_s
        batch = checked_batch(item)
        if self._agreement is not None:
            self._agreement.all_have(batch)
        if index + 1 == len(self._examples_before):
            try:
                self._examples_before.append(self._examples_before[index] + count_examples(batch))
            except ValueError:  # `examples` raises it later
                if not has_axes(batch):
                    raise
        return batch

    def _count(self, num_batches: int) -> int:
        while (known := len(self._examples_before)) <= num_batches:
            batch = self._read(known - 1)
            if len(self._examples_before) == known:
                count_examples(batch)  # raises
        return self._examples_before[num_batches]


def first_step_with(examples: Callable[[int], int], amount: int, steps_per_epoch: int, start: int):
    """The first step from `start` on with at least `amount` examples; inf if there is no such step.

    Looks ahead in doubling strides, so that what is near costs little and reads little.
    """
    stride = 1
    while examples(start + stride) < amount:
        if stride > steps_per_epoch and examples(steps_per_epoch) == 0:
            return float("inf")
        stride *= 2
    reached = range(start, start + stride + 1)
    return reached[bisect_left(reached, amount, key=examples)]


def _checked_length(batches: BatchSource) -> int:
    length = len(batches)
    if length == 0:
        raise no_batch(batches, 0, 0)
    return length
