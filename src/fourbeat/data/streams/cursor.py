"""Reading a stream: pass by pass, from a place on, by one loop at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from fourbeat.data.decoded import ExampleError
from fourbeat.data.streams.place import BEGINNING, Place
from fourbeat.data.streams.source import OfFunction, Source, check_is_batch
from fourbeat.data.streams.written_states import read_back, written
from fourbeat.trees.example_counts import known_num_examples
from fourbeat.types import Batch


class Cursor:
    """Reads a stream for a loop. It moves the stream's place; the state of the source follows.

    Attributes:
      source: what is read.
      is_local: whether each process reads examples of its own, where several train together; None where
        nothing says it.
    """

    def __init__(self, source: Source):
        self.source = source
        self.is_local: bool | None = None
        self._standing = _Standing()
        self._form: Callable[[Any], Any] | None = None

    @property
    def place(self) -> Place:
        """Where the stream stands: after the batch that was given last."""
        return self._standing.place

    def give(self, place: Place) -> None:
        """Notes the place after the batch that was just given."""
        self._standing.place = place

    def move(self, place: Place) -> None:
        """Sets the stream to a place that was saved.

        Raises:
          ValueError: it is a place in another kind of source.
          RuntimeError: a loop is reading the stream.
        """
        self._refuse_second_loop()
        if self.source.kind is not None:
            _check_kind(self.source.kind, place)
        self._standing.place, self._standing.end = place, None

    @property
    def name(self) -> str:
        """How errors name what is read."""
        return "the Stream" if self.source.kind is None else f"the Stream of {_article(self.source.kind)}"

    @property
    def steps_per_epoch(self) -> int | None:
        """Batches of a pass, where that is known."""
        return self.source.steps_per_pass

    @property
    def is_single_pass(self) -> bool:
        """Whether one pass is all there is."""
        return self.source.is_single_pass

    @property
    def next_pass(self) -> tuple[int, bool]:
        """The number of the pass to read next, and whether a part of it was given already."""
        if self._standing.end is self._standing.place and self._standing.place.step:
            return self._standing.place.epoch + 1, False
        return self._standing.place.epoch, self._standing.place.step > 0

    def end_pass(self) -> None:
        """Notes that the pass has ended with the batch that was given last."""
        self._standing.end = self._standing.place

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A context in which one loop has the stream; afterwards the workers have ended.

        Raises:
          RuntimeError: another loop has it.
        """
        self._refuse_second_loop()
        self._standing.is_read = True
        try:
            yield
        finally:
            self._standing.is_read = False
            self.source.end()

    def read(self, number: int, *, is_resumed: bool) -> Iterator[tuple[Any, Place]]:
        """The batches of a pass, each with the place of the stream once it is given.

        Args:
          number: the number of the pass.
          is_resumed: whether it begins after the batch that was given last; else at its beginning.
        """
        source, place = self.source, self._standing.place
        source.open(number)
        if not is_resumed:
            place = place._replace(state=None, skip=0)
        self._standing.end = None  # from here on the source is in this pass
        batches = _each(_begun(source, number, place), self.name, number, place.step - place.skip)
        _skip(batches, place)
        step, state, skip = place.step, place.state, place.skip
        for batch in batches:
            step, skip = step + 1, skip + 1
            if skip >= source.state_every:
                state, skip = written(source.state(), f"the state of {self.name}"), 0
            yield self._formed(batch), Place(step, number, None, source.kind, state, skip)

    def with_examples(self) -> Iterator[tuple[Any, int | None]]:
        """A whole pass from a source of its own, as an evaluation reads it; the stream stays where it is.

        Returns:
          Each batch, and how many examples it had before it was formed; None where it was not.

        Raises:
          TypeError: when read, where the stream was not given a function that makes a source.
        """
        source = self.source
        if not isinstance(source, OfFunction):
            raise TypeError(
                f"cannot evaluate over {self.name}: reading a whole pass would move it. Give Stream a "
                "function that makes its source, fb.data.Stream(lambda: ...), or evaluate over the data set "
                "itself."
            )
        beside = copy(self)
        beside._standing = _Standing()
        beside.source = own = source.twin()
        own.open(0)
        if own.made is source.made:
            raise TypeError(
                f"cannot evaluate over {self.name} while a loop reads it: its function gave the very object "
                "that the loop reads. Let it make a new one."
            )
        try:
            for batch in _each(own.begin(0, None), self.name, 0, 0):
                num_real = None if self._form is None else known_num_examples(batch)
                yield beside._formed(batch), num_real
        finally:
            own.end()

    def formed(self, form: Callable[[Any], Any]) -> Cursor:
        """A cursor at the same place, that applies a function to each batch."""
        other = copy(self)
        other._form = form
        return other

    def _formed(self, batch: Batch) -> Any:
        source = self.source
        if not self._standing.is_checked and source.batching is not None:
            check_is_batch(batch, source.kind or "", source.batching)
        self._standing.is_checked = True
        return batch if self._form is None else self._form(batch)

    def _refuse_second_loop(self) -> None:
        if self._standing.is_read:
            raise RuntimeError(
                f"{self.name} is being read by a loop already, and two would each get a part of its batches. "
                "Make a Stream for each; an evaluation takes one that was given a function."
            )


@dataclasses.dataclass
class _Standing:
    """What changes while a source is read; a stream and the stream that pads it share one.

    Attributes:
      place: after the batch that was given last.
      end: where a pass was seen to end, while nothing was read since.
      is_read: whether a loop has the source now.
      is_checked: whether what is read was seen to be no single example.
    """

    place: Place = BEGINNING
    end: Place | None = None
    is_read: bool = False
    is_checked: bool = False


def _begun(source: Source, number: int, place: Place) -> Iterator[Any]:
    """The batches of a pass after the state that a place has."""
    if place.state is None:
        return source.begin(number, None)
    assert source.kind is not None
    _check_kind(source.kind, place)
    try:
        return source.begin(number, read_back(place.state))
    except Exception as error:
        why = str(error).strip().rstrip(".") or type(error).__name__
        raise ValueError(
            f"cannot go on with {_article(source.kind)} after batch {place.step}: {why}. Build it as it was "
            "when the state was saved: of the same data, with the same options and as many workers."
        ) from error


def _skip(batches: Iterator[Any], place: Place) -> None:
    """Reads and drops the batches between the saved state and the place itself."""
    for skipped in range(place.skip):
        if next(batches, batches) is batches:
            raise ValueError(
                f"cannot go on with a stream after batch {place.step}: its source ended "
                f"{place.skip - skipped} batches before. Build it as it was when the state was saved."
            )


def _check_kind(kind: str, place: Place) -> None:
    if place.source not in (None, kind):
        raise ValueError(
            f"this state was saved of a stream of {_article(place.source or '')}, and this is one of "
            f"{_article(kind)}. A state fits the kind of source that it was saved of."
        )


def _each(batches: Iterator[Any], name: str, number: int, step: int) -> Iterator[Any]:
    """The batches after a step; an error in between names what could not be read."""
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:
            raise ExampleError(
                f"cannot read batch {step + 1} of {name}, in pass {number}: {type(error).__name__}: {error}. "
                "A stream is read in order and cannot go past it: mend the example, or leave it out in the "
                "source, then go on from the last save.",
                source=name,
                number=None,
            ) from error
        step += 1
        yield batch


def _article(kind: str) -> str:
    return f"{'an' if kind[:1] in 'AEIOU' else 'a'} {kind}"
