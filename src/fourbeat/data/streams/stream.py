"""A stream: batches in order, from a source that can say where it stands and go on from there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, Self

from fourbeat.data.streams.cursor import Cursor
from fourbeat.data.streams.opening import source_of
from fourbeat.data.streams.place import Place
from fourbeat.data.streams.places_of_processes import place_of_process, text_of_processes
from fourbeat.trees.example_counts import known_num_examples
from fourbeat.types import Batch, Object


class Stream:
    """Batches from a source that is read in order and has a state: a Grain pipeline, a loader, your own.

    Give it to `fourbeat.loop`, or to a run's `loop`, which saves and restores it with everything else. In a
    loop of your own, `for batch in stream` gives what is left of the present pass, or else the next one.
    `state()` is always the one after the last batch given, whatever the loop or workers have read ahead.

    When a loop ends, however it ends, the workers of its stream end too, and an iterator that can be closed
    is closed. Another loop goes on where the stream stands.

    Args:
      source: an object that has a state, or whose iterators have one: Grain's `IterDataset` or `DataLoader`;
        torchdata's `StatefulDataLoader`; Hugging Face's `IterableDataset`; a `tf.data.Dataset`; an iterable
        or an iterator with `get_state` and `set_state`, or `state_dict` and `load_state_dict`. Or a function
        that makes one of them for each pass, of no argument or of the number of the pass. An iterator makes
        a single pass.

    Raises:
      TypeError: the source has no state.
      ValueError: its state loses examples, as that of a Hugging Face data set with a shuffle buffer does.

    >>> import numpy as np, fourbeat as fb
    >>> class Counter:
    ...     def __init__(self):
    ...         self.count = 0
    ...
    ...     def __iter__(self):
    ...         while self.count < 4:
    ...             self.count += 1
    ...             yield {"x": np.full(2, self.count)}
    ...         self.count = 0
    ...
    ...     def get_state(self):
    ...         return self.count
    ...
    ...     def set_state(self, state):
    ...         self.count = state
    >>> stream = Stream(Counter())
    >>> [int(tick.batch["x"][0]) for tick in fb.loop(stream, until=fb.at(steps=6))]
    [1, 2, 3, 4, 1, 2]
    >>> saved = stream.state()
    >>> stream = Stream(Counter()).restore(saved)
    >>> stream
    Stream(Counter, 6 batches given, the last of pass 1)
    >>> [int(tick.batch["x"][0]) for tick in fb.loop(stream, start=6, until=fb.at(epochs=2))]
    [3, 4]
    """

    def __init__(self, source: Object):
        self._cursor = Cursor(source_of(source))

    @property
    def step(self) -> int:
        """Batches given since the beginning."""
        return self._cursor.place.step

    def state(self) -> str:
        """Where the stream stands: a text that `restore` takes, and a leaf that a checkpoint holds.

        After `local_batches(stream)` every process calls it, and the text holds the place of each.
        """
        return state_at(self, self._cursor.place)

    def restore(self, state: str) -> Self:
        """Sets the stream to where one stood when `state()` gave this text; the next batch is the one after.

        Returns:
          The stream itself.

        Raises:
          TypeError: `state` is no text.
          ValueError: it is no state of a stream, or that of another kind of source, or that of another number
            of processes, each with its own place.
          RuntimeError: a loop is reading the stream.
        """
        self._cursor.move(place_of_process(state, is_local=self._cursor.is_local is True))
        return self

    def __iter__(self) -> Iterator[Any]:
        cursor = self._cursor
        with cursor.reading():
            number, is_resumed = cursor.next_pass
            is_empty = True
            for batch, place in cursor.read(number, is_resumed=is_resumed):
                is_empty = False
                yield self._given(batch, place)
            if is_empty and is_resumed and not cursor.is_single_pass:
                for batch, place in cursor.read(number + 1, is_resumed=False):
                    yield self._given(batch, place)
            cursor.end_pass()

    def __repr__(self) -> str:
        place = self._cursor.place
        kind = self._cursor.source.kind or "a function"
        stands = f", the last of pass {place.epoch}" if place.step else ""
        return f"Stream({kind}, {place.step} batch{'' if place.step == 1 else 'es'} given{stands})"

    def _given(self, batch: Batch, place: Place) -> Any:
        num, before = known_num_examples(batch), self._cursor.place.examples
        known = None if num is None or before is None else before + num
        self._cursor.give(place._replace(examples=known))
        return batch


def cursor_of(stream: Stream) -> Cursor:
    """The cursor that reads a stream for a loop."""
    return stream._cursor


def state_at(stream: Stream, place: Place) -> str:
    """The state of a stream that stands at a place; where it is local, with those of other processes."""
    return text_of_processes(place) if cursor_of(stream).is_local else place.text()


def shared(stream: Stream, *, is_local: bool) -> Stream:
    """A stream that moves together with this one, of which it is said whose batches it gives."""
    other = copy(stream)
    other._cursor = copy(stream._cursor)
    other._cursor.is_local = is_local
    return other


def formed(stream: Stream, form: Callable[[Any], Any]) -> Stream:
    """A stream that moves together with this one, with a function applied to each batch."""
    other = copy(stream)
    other._cursor = stream._cursor.formed(form)
    return other
