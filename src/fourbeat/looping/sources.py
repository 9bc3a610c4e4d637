"""Sources: batches by number, or batches in the order in which they come."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import numpy as np

from fourbeat.compiling.blocks import Block, batch_signature
from fourbeat.data.batches import Batches
from fourbeat.data.placement import place
from fourbeat.data.plain_batches import (
    PlainSequence,
    check_batches,
    count_examples,
    is_by_step,
    is_sequence,
    iterated,
    name_of,
    own_batch,
)
from fourbeat.data.reading_ahead import AtOnce, ReadingAhead
from fourbeat.data.streams.place import Place
from fourbeat.data.streams.stream import Stream, cursor_of
from fourbeat.trees.examples import has_axes


class BatchesByStep(Protocol):
    """Data whose batch is a function of the global step, as that of `fourbeat.data.Batches` is.

    A class of yours with these four methods resumes exactly, and its marks and its end are foreseen:
    `fourbeat.loop` takes what they return as it is, without a check or a copy.

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
        """Steps of an epoch."""
        ...

    def __getitem__(self, step: int, /) -> Any:
        """The batch of a global step, the first being 0."""
        ...

    def examples(self, step: int, /) -> int:
        """Examples in the steps from 0 up to, and without, `step`."""
        ...

    def stacked(self, step: int, num_steps: int, size: int, /) -> Any:
        """The batches of `num_steps` steps from `step` on, stacked to a leading axis of `size`."""
        ...


class Indexed(Protocol):
    """A source whose every step can be foreseen."""

    steps_per_epoch: int

    def examples(self, step: int, /) -> int:
        """Examples in the first `step` steps."""
        ...

    def batch(self, step: int, /) -> Any:
        """The batch of the step after `step` steps."""
        ...

    def block(self, step: int, num_steps: int, size: int, /) -> tuple[Block, int]:
        """A block of at most `num_steps` batches from `step` on, and of how many it is."""
        ...


class StepSource:
    """Batches that know what each step holds; they are handed on as they are."""

    def __init__(self, batches: BatchesByStep):
        self.steps_per_epoch = _checked_length(batches)
        self.examples = batches.examples
        self.batch = batches.__getitem__
        self._batches = batches
        self._reading: AtOnce | ReadingAhead | None = None

    @contextmanager
    def reading(self, start: int, end: int | None, should_stop: Callable[[], bool]) -> Iterator[None]:
        """Batches are read ahead from here on, where they are asked to be; a stop ends a wait for one."""
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
        """A block of `num_steps` batches, or of fewer where the next has another shape."""
        if self._reading is None:
            stacked = self._batches.stacked(step, num_steps, size)
        else:
            stacked, num_steps = self._reading.block(step, num_steps, size)
        return Block(stacked, np.asarray(num_steps, dtype=np.int32)), num_steps


class SequenceSource:
    """A sequence of plain batches, gone through again and again, or read on where it takes any step.

    Examples are counted as batches are read, so a count past what was read reads the batches between.
    """

    def __init__(self, batches: Sequence[Any]):
        self.steps_per_epoch = _checked_length(batches)
        self._batches = PlainSequence(batches)
        self._examples_before = [0]
        self._in_memory = isinstance(batches, list | tuple)
        self.wait_s = 0.0

    def examples(self, step: int) -> int:
        """Examples in the first `step` steps."""
        num_passes, rest = divmod(step, self.steps_per_epoch)
        total = self._count(self.steps_per_epoch) if num_passes else 0
        return num_passes * total + self._count(rest)

    def batch(self, step: int) -> Any:
        """The batch of the step after `step` steps, on the device."""
        return place(self._read(step))

    def block(self, step: int, num_steps: int, size: int) -> tuple[Block, int]:
        """A block of the batches from `step` on that are alike."""
        batches = [self._read(step)]
        while len(batches) < num_steps:
            batch = self._read(step + len(batches))
            if batch_signature(batch) != batch_signature(batches[0]):
                break
            batches.append(batch)
        return placed_block(batches, size), len(batches)

    def _read(self, step: int) -> Any:
        index = step % self.steps_per_epoch
        begin_s = time.perf_counter()
        item = self._batches[step if self._batches.takes_any_step else index]
        if not self._in_memory:
            self.wait_s += time.perf_counter() - begin_s
        batch = own_batch(item)
        if index + 1 == len(self._examples_before):
            try:
                self._examples_before.append(self._examples_before[index] + count_examples(batch))
            except ValueError:  # raised where somebody asks
                if not has_axes(batch):
                    raise
        return batch

    def _count(self, num_batches: int) -> int:
        while (known := len(self._examples_before)) <= num_batches:
            batch = self._read(known - 1)
            if len(self._examples_before) == known:
                count_examples(batch)  # raises
        return self._examples_before[num_batches]


class StreamSource:
    """Batches of any iterable, each read when it is wanted and not before.

    A generator may depend on what the loop's body did with the batch before. Whether a pass has ended is
    therefore only known once somebody looks: see `look`.

    An iterator makes one pass; anything else is iterated anew for each epoch, when its first batch
    is wanted.

    Attributes:
      step: batches handed out.
      num_counted: their examples, as far as each batch tells how many it has.
      epoch: passes known to be complete.
      is_single_pass: whether the batches are an iterator.
      is_exhausted: True when an iterator is known to have handed out its last batch.
      wait_s: seconds spent reading them.
    """

    def __init__(self, batches: Iterable[Any]):
        self.steps_per_epoch = _length_or_none(batches)
        self.name = name_of(batches)
        self.step = self.num_counted = self.epoch = 0
        self._uncounted: ValueError | None = None
        self.is_single_pass = isinstance(batches, Iterator)
        self.is_exhausted = False
        self._batches = batches
        self._start = 0
        self._is_length_needed = False
        self._is_placed = True
        self._pass: Iterator[Any] | None = None
        self._ahead: tuple[Any, int] | None = None
        self.wait_s = 0.0

    @property
    def examples(self) -> int:
        """Examples of the batches handed out.

        Raises:
          ValueError: one of them does not tell how many it has.
        """
        if self._uncounted is not None:
            raise self._uncounted
        return self.num_counted

    def examples_when_asked(self) -> int | Callable[[int], int]:
        """`examples`; where they are not known, a function that raises."""
        return self.num_counted if self._uncounted is None else lambda step: self.examples

    def begin(self, start: int, *, is_placed: bool, is_length_needed: bool) -> None:
        """Say how batches are to be read: those before `start` are only counted."""
        self._start, self._is_placed = start, is_placed
        self._is_length_needed = is_length_needed

    def advance(self) -> Any:
        """The next batch, read now where nobody has looked at it before."""
        self.look()
        if self._ahead is None:
            self._begin_pass()
        assert self._ahead is not None
        (batch, num_examples), self._ahead = self._ahead, None
        self.step += 1
        self.num_counted += num_examples
        return batch

    def look(self) -> None:
        """Read one batch ahead within the present pass, or see that the pass has ended."""
        if self._pass is not None and self._ahead is None:
            self._ahead = self._read(self._pass)
            if self._ahead is None:
                self._end_pass()

    def is_next_like(self, batch: Any) -> bool:
        """Whether the next batch, once looked at, is of this pass and of the form of `batch`."""
        return self._ahead is not None and batch_signature(self._ahead[0]) == batch_signature(batch)

    def begin_tick(self) -> None:
        """What is given from here on is of one tick."""

    def release(self, step: int) -> None:
        """Let go of the pass and of a batch that was read ahead; the last tick given was of `step`."""
        self._pass = self._ahead = None

    def _begin_pass(self) -> None:
        self._pass = iterated(self._batches)
        self._ahead = self._read(self._pass)
        if self._ahead is None:
            raise _empty(self._batches, self.epoch, self.step)

    def _read(self, batches: Iterator[Any]) -> tuple[Any, int] | None:
        begin_s = time.perf_counter()
        try:
            return self._read_next(batches)
        finally:
            self.wait_s += time.perf_counter() - begin_s

    def _read_next(self, batches: Iterator[Any]) -> tuple[Any, int] | None:
        for batch in batches:
            owned = own_batch(batch)
            num_examples = self._counted(owned)
            if self.step < self._start:
                return None, num_examples
            return (place(owned) if self._is_placed else owned), num_examples
        return None

    def _counted(self, batch: Any) -> int:
        try:
            return count_examples(batch)
        except ValueError as error:  # as of graphs, or of points inside and on an edge: told where it matters
            if not has_axes(batch):
                raise
            self._uncounted = error
            return 0

    def _end_pass(self) -> None:
        self.epoch += 1
        self.is_exhausted = self._pass is self._batches
        self._pass = None
        length = self.steps_per_epoch
        if self._is_length_needed and length and self.step != self.epoch * length:
            raise ValueError(
                f"pass {self.epoch} over {self.name} ended after step {self.step}, "
                f"where its len() of {length} says {self.epoch * length}; fractions of an epoch "
                "cannot be placed. Make every pass as long as len(), or use marks in steps or "
                "whole epochs."
            )


class PositionedSource(StreamSource):
    """Batches of a `Stream`, read from where it stands on; it is told of each batch that is given."""

    def __init__(self, stream: Stream):
        super().__init__(stream)
        self._cursor = cursor_of(stream)
        self.steps_per_epoch = self._cursor.steps_per_epoch
        self.is_single_pass = self._cursor.is_single_pass
        self._reading = ExitStack()
        self._place_ahead: Place | None = None
        self._before = self._cursor.place

    @property
    def start(self) -> int:
        """The step that it is read from."""
        return self._cursor.place.step

    def begin(self, start: int, *, is_placed: bool, is_length_needed: bool) -> None:
        """Goes on where the stream stands: after `start`. The pass is seen to end there, where it does."""
        super().begin(start, is_placed=is_placed, is_length_needed=is_length_needed)
        self._reading.enter_context(self._cursor.reading())
        place = self._before = self._cursor.place
        self.step, examples = place.step, place.examples
        self.num_counted = examples or 0
        if examples is None:
            self._uncounted = ValueError(
                f"{self.name} does not know how many examples its first {self.step} batches had: one of them "
                "did not tell."
            )
        self.epoch, is_resumed = self._cursor.next_pass
        self.is_exhausted = self.is_single_pass and self.epoch > 0
        if is_resumed:
            self._pass = self._cursor.read(self.epoch, is_resumed=True)
            self.look()

    def begin_tick(self) -> None:
        """What is given from here on is of one tick."""
        self._before = self._cursor.place

    def advance(self) -> Any:
        batch = super().advance()
        assert self._place_ahead is not None
        examples = None if self._uncounted is not None else self.num_counted
        self._cursor.give(self._place_ahead._replace(examples=examples))
        return batch

    def release(self, step: int) -> None:
        """Lets go of the pass; what was read for a tick that was not given stays to be read."""
        if self._cursor.place.step != step:
            self._cursor.give(self._before)
        super().release(step)
        self._reading.close()

    def _begin_pass(self) -> None:
        self._pass = self._cursor.read(self.epoch, is_resumed=False)
        self._ahead = self._read(self._pass)
        if self._ahead is None:
            raise _empty(self._batches, self.epoch, self.step)

    def _read_next(self, batches: Iterator[Any]) -> tuple[Any, int] | None:
        for batch, self._place_ahead in batches:
            return super()._read_next(iter((batch,)))
        return None

    def _end_pass(self) -> None:
        self._cursor.end_pass()
        super()._end_pass()
        self.is_exhausted = self.is_single_pass


def source_of(batches: Any) -> StepSource | SequenceSource | StreamSource:
    """The source that suits `batches`."""
    check_batches(batches)
    if isinstance(batches, Stream):
        return PositionedSource(batches)
    if is_by_step(batches):
        return StepSource(batches)
    return SequenceSource(batches) if is_sequence(batches) else StreamSource(batches)


def placed_block(batches: list[Any], size: int) -> Block:
    """A block of batches that are alike, on the device."""
    block = Block.stack(batches, size)
    return Block(place(block.batch), block.num_steps)


def first_step_with(examples: Callable[[int], int], amount: int, steps_per_epoch: int, start: int):
    """The first step from `start` on with at least `amount` examples; inf where none ever has.

    Looks ahead in doubling strides, so that what is near costs little and reads little.
    """
    stride = 1
    while examples(start + stride) < amount:
        if stride > steps_per_epoch and examples(steps_per_epoch) == 0:
            return float("inf")
        stride *= 2
    reached = range(start, start + stride + 1)
    return reached[bisect_left(reached, amount, key=examples)]


def _checked_length(batches: Any) -> int:
    length = len(batches)
    if length == 0:
        raise _empty(batches, 0, 0)
    return length


def _length_or_none(batches: Any) -> int | None:
    try:
        return len(batches)
    except TypeError:  # also an object with a __len__ that does not know, as of some data loaders
        return None


def _empty(batches: Any, epoch: int, step: int) -> ValueError:
    if epoch == 0:
        return ValueError(
            f"batches is empty: {name_of(batches)} gave no batch. Check the filter or the split "
            "that it "
            'comes from; with remainder="drop" fewer examples than one batch give none.'
        )
    return ValueError(
        f"pass {epoch + 1} over {name_of(batches)} gave no batch, after {step} in {epoch}: it can "
        "only be iterated once. Pass iter(batches) for one epoch, or a list or a class whose "
        "__iter__ begins anew."
    )
