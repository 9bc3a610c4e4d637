"""Sources that are read in the order in which batches come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from fourbeat.data.agreeing import Agreement
from fourbeat.data.own_batches import END, next_checked_batch, next_own_batch, own_batch
from fourbeat.data.plain_batches import count_examples, iterated, name_of, no_batch
from fourbeat.data.streams.place import Place
from fourbeat.data.streams.stream import Stream, cursor_of
from fourbeat.trees.example_counts import has_axes
from fourbeat.types import Batch, BatchSource


class StreamSource:
    """Batches of any iterable, each read when it is wanted and not before.

    A generator may depend on what the loop's body did with the batch before. The source
    therefore knows whether a pass has ended only after it has read on: see `look`.

    An iterator makes one pass; any other iterable is iterated anew for each epoch, when the loop needs
    its first batch.

    Attributes:
      step: the number of batches handed out.
      num_counted: the number of their examples, as far as each batch tells how many it has.
      epoch: the number of passes that are known to be complete.
      is_single_pass: whether the batches are an iterator.
      is_exhausted: True when an iterator is known to have handed out its last batch.
      wait_s: the seconds spent reading batches.
      placed: lays a batch, or a block, out over the processes that train together; None where one trains.

    Args:
      batches: what is read.
      agreement: of the processes that train together; None where one trains.
      placed: see above.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        agreement: Agreement | None = None,
        placed: Callable[[Any], Any] | None = None,
    ):
        self.placed = placed
        self._agreement = agreement
        self.steps_per_epoch = self._agreed_length(_length_or_none(batches))
        self.name = name_of(batches)
        self.step = self.num_counted = self.epoch = 0
        self._uncounted: ValueError | None = None
        self.is_single_pass = isinstance(batches, Iterator)
        self.is_exhausted = False
        self._batches = batches
        self._start = 0
        self._is_length_needed = False
        self._pass: Iterator[Any] | None = None
        self._ahead: tuple[Any, int] | None = None
        self.wait_s = 0.0

    @property
    def examples(self) -> int:
        """The number of examples in the batches handed out.

        Raises:
          ValueError: a batch does not tell how many examples it has.
        """
        if self._uncounted is not None:
            raise self._uncounted
        return self.num_counted

    def examples_when_asked(self) -> int | Callable[[int], int]:
        """`examples`, or a function that raises if the number is not known."""
        return self.num_counted if self._uncounted is None else lambda step: self.examples

    def begin(self, start: int, *, is_length_needed: bool) -> None:
        """Sets how batches are read: those before `start` are only counted."""
        self._start, self._is_length_needed = start, is_length_needed

    def advance(self, *, copies: bool = True) -> Any:
        """The next batch. It is read now if `look` has not read it before; `copies` is as in `look`."""
        self.look(copies=copies)
        if self._ahead is None:
            self._begin_pass()
        assert self._ahead is not None
        (batch, num_examples), self._ahead = self._ahead, None
        self.step += 1
        self.num_counted += num_examples
        return batch

    def look(self, *, copies: bool = True) -> None:
        """Reads one batch ahead within the present pass, or finds that the pass has ended.

        Args:
          copies: whether the batch gets memory of its own. If not, use the batch, or call `keep_ahead`,
            before any other code runs.
        """
        if self._pass is not None and self._ahead is None:
            self._ahead = self._read(self._pass, copies)
            if self._ahead is None:
                self._end_pass()

    @property
    def ahead(self) -> Any:
        """The batch that was read ahead; None if there is none."""
        return None if self._ahead is None else self._ahead[0]

    def keep_ahead(self) -> None:
        """Copies the batch that was read ahead without a copy."""
        if self._ahead is not None:
            self._ahead = own_batch(self._ahead[0]), self._ahead[1]

    def begin_tick(self) -> None:
        """The batches given from here on belong to one tick."""

    def release(self, step: int) -> None:
        """Drops the pass and a batch that was read ahead. `step` is that of the last tick given."""
        self._pass = self._ahead = None

    def _begin_pass(self) -> None:
        self._pass = self._agreed_pass(self._passed())
        self._ahead = self._read(self._pass, copies=True)
        if self._ahead is None:
            raise no_batch(self._batches, self.epoch, self.step)

    def _passed(self) -> Iterator[Any]:
        """The batches of a new pass."""
        return iterated(self._batches)

    def _agreed_pass(self, batches: Iterator[Any]) -> Iterator[Any]:
        return batches if self._agreement is None else self._agreement.of_pass(batches)

    def _agreed_length(self, length: int | None) -> int | None:
        return length if self._agreement is None else self._agreement.of_length(length)

    def _read(self, batches: Iterator[Any], copies: bool) -> tuple[Any, int] | None:
        begin_s = time.perf_counter()
        try:
            is_used = copies and self.step >= self._start
            batch = next_own_batch(batches) if is_used else next_checked_batch(batches)
        finally:
            self.wait_s += time.perf_counter() - begin_s
        return None if batch is END else (batch, self._counted(batch))

    def _counted(self, batch: Batch) -> int:
        try:
            return count_examples(batch) * (1 if self._agreement is None else self._agreement.num_parts)
        except ValueError as error:  # such as a batch of graphs; `examples` raises it later
            if not has_axes(batch):
                raise
            self._uncounted = error
            return 0

    def _end_pass(self) -> None:
        self.epoch += 1
        is_agreed = self._agreement is not None  # then it is read through another iterator
        self.is_exhausted = self.is_single_pass if is_agreed else self._pass is self._batches
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
    """Batches of a `Stream`, read from its present place. It tells the stream about each batch given."""

    def __init__(
        self,
        stream: Stream,
        agreement: Agreement | None = None,
        placed: Callable[[Any], Any] | None = None,
    ):
        super().__init__(stream, agreement, placed)
        self._cursor = cursor_of(stream)
        self.steps_per_epoch = self._agreed_length(self._cursor.steps_per_epoch)
        self.is_single_pass = self._cursor.is_single_pass
        self._reading = ExitStack()
        self._place_ahead: Place | None = None
        self._before = self._cursor.place

    @property
    def start(self) -> int:
        """The step from which the stream is read."""
        return self._cursor.place.step

    def begin(self, start: int, *, is_length_needed: bool) -> None:
        """Goes on at the stream's place, after `start`. It notices if the pass ends there."""
        super().begin(start, is_length_needed=is_length_needed)
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
            self._pass = self._agreed_pass(self._passed(is_resumed=True))
            self.look()

    def begin_tick(self) -> None:
        """The batches given from here on belong to one tick."""
        self._before = self._cursor.place

    def advance(self, *, copies: bool = True) -> Any:
        batch = super().advance(copies=copies)
        assert self._place_ahead is not None
        examples = None if self._uncounted is not None else self.num_counted
        self._cursor.give(self._place_ahead._replace(examples=examples))
        return batch

    def release(self, step: int) -> None:
        """Drops the pass. Batches that were read for a tick that was not given will be read again."""
        if self._cursor.place.step != step:
            self._cursor.give(self._before)
        super().release(step)
        self._reading.close()

    def _passed(self, *, is_resumed: bool = False) -> Iterator[Any]:
        for batch, place in self._cursor.read(self.epoch, is_resumed=is_resumed):
            self._place_ahead = place
            yield batch

    def _end_pass(self) -> None:
        self._cursor.end_pass()
        super()._end_pass()
        self.is_exhausted = self.is_single_pass


def _length_or_none(batches: BatchSource) -> int | None:
    try:
        return len(batches)
    except TypeError:  # the `__len__` of some data loaders raises it, because they do not know their length
        return None
