"""What a stream asks of a source, and the sources that need nothing of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any, Protocol

from fourbeat.data.libraries import is_of
from fourbeat.trees.example_counts import is_example, listed
from fourbeat.types import BatchSource, Object


class Source(Protocol):
    """What batches are read from in order, pass by pass, from a state on.

    Attributes:
      kind: what it is, for errors and in saved states; None until a pass is opened, where only that tells.
      is_single_pass: whether one pass is all that there is.
      steps_per_pass: batches of a pass, where that is known.
      batching: how its library makes batches of examples; None if a batch and an
        example cannot be told apart.
      state_every: the number of batches between two states that are kept. A restored stream reads and drops
        the batches since the last of them.
    """

    kind: str | None
    is_single_pass: bool
    steps_per_pass: int | None
    state_every: int
    batching: str | None

    def open(self, number: int) -> None:
        """Gets ready for the pass of this number; `kind` is known then."""
        ...

    def begin(self, number: int, state: Object) -> Iterator[Any]:
        """The batches of pass `number`, from a state on; None is the beginning of the pass."""
        ...

    def state(self) -> Any:
        """The state after the batch that was read last."""
        ...

    def end(self) -> None:
        """Releases the pass; workers that read ahead end."""
        ...


class StateMethods:
    """The two methods of an object that give its state and set it."""

    def __init__(self, owner: Object):
        names = names_of_state(owner)
        assert names is not None
        self.get: Callable[[], Any] = getattr(owner, names[0])
        self.set: Callable[[Any], Any] = getattr(owner, names[1])


def names_of_state(owner: Object) -> tuple[str, str] | None:
    """How the state of an object is got and set; None where it has none."""
    for names in (("get_state", "set_state"), ("state_dict", "load_state_dict")):
        if all(callable(getattr(owner, name, None)) for name in names):
            return names
    return None


def length_of(batches: BatchSource) -> int | None:
    """The number of batches of a pass, where it is known."""
    try:
        return len(batches)
    except TypeError:  # some __len__ raise it too, where the length is unknown
        return None


def close(iterator: Object) -> bool:
    """Closes an iterator if it can be closed, and returns whether it can."""
    if is_of(iterator, "grain", "DataLoaderIterator"):  # it has no method for that (Grain 0.2)
        iterator = getattr(iterator, "_iterator", None)
    closing = getattr(iterator, "close", None)
    if callable(closing):
        closing()
    return callable(closing)


def check_is_batch(given: Object, kind: str, repair: str) -> None:
    """Checks that what a data set gives can be a batch.

    Raises:
      TypeError: it is a single example.
    """
    if is_example(given):
        raise TypeError(
            f"the {kind} gives single examples: {listed(given)}, without an axis of examples that all share. "
            f"Batch them: {repair}."
        )


class OfIterators:
    """An iterable whose iterators have the state, as those of Grain have."""

    is_single_pass = False
    state_every = 1
    batching: str | None = None

    def __init__(self, batches: Iterable[Any], kind: str):
        self.kind: str | None = kind
        self.steps_per_pass = length_of(batches)
        self._batches = batches
        self._pass: Iterator[Any] | None = None

    def open(self, number: int) -> None:
        """Does nothing: there is nothing to prepare."""

    def begin(self, number: int, state: Any) -> Iterator[Any]:
        self.end()
        self._pass = iter(self._batches)
        if state is not None:
            StateMethods(self._pass).set(state)
        return self._pass

    def state(self) -> Any:
        return StateMethods(self._pass).get()

    def end(self) -> None:
        close(self._pass)
        self._pass = None


class OfIterable(OfIterators):
    """An iterable that has a state itself, as a `StatefulDataLoader` has."""

    def __init__(self, batches: Iterable[Any], kind: str):
        super().__init__(batches, kind)
        self._states = StateMethods(batches)
        self._initial: Any = None

    def begin(self, number: int, state: Any) -> Iterator[Any]:
        if number == 0:  # a pass that began and gave no batch begins again
            state = deepcopy(self._initial) if state is None else state
            if state is None:
                self._initial = deepcopy(self.state())
        self._pass = self._from(state)
        return self._pass

    def _from(self, state: Any) -> Iterator[Any]:
        if state is not None:
            self._states.set(state)
        return iter(self._batches)

    def state(self) -> Any:
        return self._states.get()


class OfIterator:
    """An iterator with a state: it makes one pass, and goes on with a pass that it has begun."""

    is_single_pass = True
    state_every = 1
    batching: str | None = None
    steps_per_pass: int | None = None

    def __init__(self, batches: Iterator[Any], kind: str):
        self.kind: str | None = kind
        self._batches = batches
        self._states = StateMethods(batches)
        self._initial: Any = None
        self._is_closed = False

    def open(self, number: int) -> None:
        if self._is_closed:
            raise ValueError(
                f"the {self.kind} was closed when the loop before ended, so that its workers end. Give "
                "Stream what makes an iterator for each loop: the data set, or a function."
            )

    def begin(self, number: int, state: Object) -> Iterator[Any]:
        state = deepcopy(self._initial) if state is None else state
        if state is None:
            self._initial = deepcopy(self._states.get())
        else:
            self._states.set(state)
        return self._batches

    def state(self) -> Any:
        return self._states.get()

    def end(self) -> None:
        self._is_closed = close(self._batches)


class OfFunction:
    """A function that makes the source of each pass."""

    kind: str | None = None
    is_single_pass = False
    steps_per_pass: int | None = None
    state_every = 1
    batching: str | None = None

    def __init__(self, make: Callable[..., Any], opened: Callable[[Any], Source]):
        self._make = make
        self._opened = opened
        self._takes_number = _takes_number(make)
        self._inner: Source | None = None
        self.made: Any = None

    def twin(self) -> OfFunction:
        """Another source of the same function."""
        return OfFunction(self._make, self._opened)

    def open(self, number: int) -> None:
        self.end()
        self.made = self._make(number) if self._takes_number else self._make()
        self._inner = self._opened(self.made)
        self._inner.open(number)
        self.kind, self.state_every = self._inner.kind, self._inner.state_every
        self.batching = self._inner.batching

    def begin(self, number: int, state: Object) -> Iterator[Any]:
        assert self._inner is not None
        return self._inner.begin(number, state)

    def state(self) -> Any:
        assert self._inner is not None
        return self._inner.state()

    def end(self) -> None:
        if self._inner is not None:
            self._inner.end()
        self._inner = self.made = None


def _takes_number(make: Callable[..., Any]) -> bool:
    """Whether a function needs an argument: the number of the pass."""
    try:
        signature = inspect.signature(make)
    except ValueError:  # of some built-in classes
        return False
    try:
        signature.bind()
    except TypeError:
        return True
    return False
