"""Which live object each object of a state is, where methods move or replace objects.

Most methods leave every object in its place; then places tell identities, and nothing is kept. Where
`init` sees a method exchange, replace, add or drop objects, the state carries one leaf more: a number
for each object in the order of meeting, and after them the number of the next new object. Live objects
have numbers from 0 up, objects that methods made have numbers from -1 down. They are data, not structure:
two objects that change places in every call are one program, and may do so in a loop.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.nnx.pytreelib import PytreeState

from fourbeat.functional import refusals
from fourbeat.functional.forms import Form
from fourbeat.functional.numpy_boxes import NumpyBox
from fourbeat.types import Object

PATH = "(identities)"  # of the leaf; no attribute has such a path
SEEN = Form(jnp.dtype(jnp.int32), False, "identities")
UNSEEN = Form(jnp.dtype(jnp.int32), False, "unseen identities")  # first moved by a method `init` has not seen


@dataclasses.dataclass(frozen=True)
class Origins:
    """The mutable objects of a clone in the order of meeting: their paths, and their numbers if any."""

    objects: Sequence[Any]
    paths: Sequence[str]
    numbers: Object = None

    def path_of(self, value: Object) -> str | None:
        """Where the clone was made with `value`, or None where a method made it."""
        place = self._places.get(id(value))
        return None if place is None else self.paths[place]

    def moved(self, objects: Sequence[Any], paths: Sequence[str]) -> bool:
        """Whether other objects were met, or at other places."""
        return self._places_of(objects) != list(range(len(self.objects))) or list(paths) != list(self.paths)

    def numbers_of(self, objects: Sequence[Any]) -> Any:
        """The numbers of the objects that were met: those they came with, and next ones for new ones."""
        num = len(self.objects)
        before = first_numbers(num) if self.numbers is None else self.numbers
        places = self._places_of(objects)
        if places == list(range(num)):
            return before
        num_new = sum(place >= num for place in places)
        made = before[..., -1:] - jnp.arange(num_new + 1, dtype=jnp.int32)
        return jnp.concatenate([before[..., :-1], made], -1)[..., np.array([*places, num + num_new])]

    @functools.cached_property
    def _places(self) -> dict[int, int]:
        return {id(_held(each)): place for place, each in enumerate(self.objects)}

    def _places_of(self, objects: Sequence[Any]) -> list[int]:
        new, places = itertools.count(len(self.objects)), []
        for i, each in enumerate(objects):
            place = self._places.get(id(each))
            if place is None:
                place = i if self._is_record(i, each) else next(new)
            places.append(place)
        return places

    def _is_record(self, i: int, value: Object) -> bool:
        """Whether Flax replaced a record of its own, which it does whenever a module passes a transform."""
        return (
            isinstance(value, PytreeState) and i < len(self.objects) and type(self.objects[i]) is PytreeState
        )


def first_numbers(num: int) -> np.ndarray:
    """The numbers of `num` live objects that are met for the first time."""
    return np.array([*range(num), -1], np.int32)


class Identities:
    """The live objects by their numbers: those met by the latest `init`, and those of the last commit."""

    def __init__(self):
        self._objects: dict[int, Any] = {}
        self._num_met = 0
        self._in_order = True

    def number(self, objects: Sequence[Any]) -> np.ndarray:
        """The numbers of live objects, which keep those that they have."""
        known = {id(each): number for number, each in self._objects.items()}
        next_made, numbers = min([0, *self._objects]) - 1, []
        for each in objects:
            number = known.get(id(each))
            if number is None:
                number, self._num_met = self._num_met, self._num_met + 1
            numbers.append(number)
        self._objects = dict(zip(numbers, objects, strict=True))
        self._in_order = self._in_order and numbers == list(range(len(numbers)))
        return np.array([*numbers, next_made], np.int32)

    def objects_of(self, numbers: Object, form: Form) -> list[Any]:
        """The live object for each number, None for objects that methods made since.

        Raises:
          FunctionalizeError: it cannot be known which live objects the numbers mean.
        """
        if not self._objects:
            raise refusals.unknown_objects("this F has not met the live objects", "call F.init() before")
        if form == UNSEEN and not self._in_order:
            raise refusals.unknown_objects(
                "F.init did not see the method that moved them, and has met them in more than one order",
                "name that method in F.init(methods={...})",
            )
        return [self._objects.get(int(number)) for number in np.asarray(numbers)[:-1]]

    def keep(self, numbers: Object, objects: Sequence[Any]) -> None:
        """Remembers the objects of a commit, and forgets those that methods had made before it."""
        met = {number: each for number, each in self._objects.items() if number >= 0}
        made = zip(map(int, np.asarray(numbers)[:-1]), objects, strict=True)
        self._objects = {**met, **dict(made)}


def _held(value: Object) -> Any:
    return value.store if isinstance(value, NumpyBox) else value
