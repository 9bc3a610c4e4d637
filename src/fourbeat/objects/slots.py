"""How each kind of thing that holds values is read, and put back as it was.

A slot is one place that a value can be written to: an attribute, a key, a global, a closure cell, the
contents of a NumPy array, the state of a random generator. Slots are read below the code of the
user's classes, so looking changes nothing.
"""

import collections
import copy
import functools
import operator
import os
import random
import types
import warnings
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fourbeat.objects.comparing import ABSENT
from fourbeat.objects.families import OBJECTS, Label
from fourbeat.types import Object

Slots = Mapping[Label, Any]
CONTENTS: Label = ("content", None)
MAX_COPIED_BYTES = 1 << 26  # 64 MiB; larger arrays are compared by checksum and cannot be put back


class ObjectSlots:
    """Attributes of instances; items of lists, dicts, deques and sets."""

    def read(self, value: Object) -> Slots:
        parts = OBJECTS.parts(value)
        return dict(zip(parts.labels, parts.values, strict=True))

    def write(self, value: Object, slots: Slots) -> None:
        OBJECTS.fill(value, tuple(slots), tuple(slots.values()))


class LengthSlots:
    """The length of a container or an array that is too large to be read. It cannot be put back."""

    def read(self, value: Object) -> Slots:
        return {CONTENTS: len(value)}

    def write(self, value: Object, slots: Slots) -> None:
        pass


class CellSlots:
    """The content of a closure cell: where a nonlocal lives."""

    def read(self, value: types.CellType) -> Slots:
        try:
            return {CONTENTS: value.cell_contents}
        except ValueError:  # a name that has not been assigned yet
            return {CONTENTS: ABSENT}

    def write(self, value: types.CellType, slots: Slots) -> None:
        if slots.get(CONTENTS, ABSENT) is ABSENT:
            del value.cell_contents
        else:
            value.cell_contents = slots[CONTENTS]


class NameSlots:
    """One name of a module's namespace."""

    def __init__(self, name: str):
        self.name = name

    def read(self, value: dict[str, Any]) -> Slots:
        return {("attr", self.name): value.get(self.name, ABSENT)}

    def write(self, value: dict[str, Any], slots: Slots) -> None:
        before = slots.get(("attr", self.name), ABSENT)
        if before is ABSENT:
            value.pop(self.name, None)
        else:
            value[self.name] = before


class ClassSlots:
    """The data attributes of a class."""

    def read(self, value: type) -> Slots:
        return {("attr", name): held for name, held in vars(value).items() if _is_data(name, held)}

    def write(self, value: type, slots: Slots) -> None:
        for label in self.read(value):
            if label not in slots:
                type.__delattr__(value, label[1])
        for (_, name), held in slots.items():
            if vars(value).get(name) is not held:
                type.__setattr__(value, name, held)


class FunctionSlots:
    """The attributes that a function carries, such as `f.num_calls`."""

    def read(self, value: types.FunctionType) -> Slots:
        return {("attr", name): held for name, held in vars(value).items()}

    def write(self, value: types.FunctionType, slots: Slots) -> None:
        vars(value).clear()
        vars(value).update({name: held for (_, name), held in slots.items()})


class ArraySlots:
    """The contents of a NumPy array, or of a bytearray."""

    def read(self, value: Object) -> Slots:
        if isinstance(value, bytearray):
            return {CONTENTS: bytes(value)}
        if value.nbytes > MAX_COPIED_BYTES:
            return {CONTENTS: f"checksum {_checksum(value)}"}
        return {CONTENTS: value.copy()}

    def write(self, value: Object, slots: Slots) -> None:
        if isinstance(value, bytearray):
            value[:] = slots[CONTENTS]
        elif isinstance(slots[CONTENTS], np.ndarray):
            np.copyto(value, slots[CONTENTS])


class RandomSlots:
    """The state of a random generator of NumPy or of Python."""

    def __init__(self):
        self._last: Any = None

    def read(self, value: Object) -> Slots:
        if isinstance(value, np.random.Generator):
            return {CONTENTS: copy.deepcopy(value.bit_generator.state)}
        if not isinstance(value, random.Random):
            return {CONTENTS: value.get_state()}
        state = value.getstate()
        if state != self._last:  # 625 numbers: while they stay they are one object, compared by `is`
            self._last = state
        return {CONTENTS: self._last}

    def write(self, value: Object, slots: Slots) -> None:
        if isinstance(value, np.random.Generator):
            value.bit_generator.state = slots[CONTENTS]
        elif isinstance(value, random.Random):
            value.setstate(slots[CONTENTS])
        else:
            value.set_state(slots[CONTENTS])


class IteratorSlots:
    """How far an iterator or generator has come, as far as it tells. It cannot be put back."""

    def read(self, value: Object) -> Slots:
        if isinstance(value, types.GeneratorType):
            frame = value.gi_frame
            place = "exhausted" if frame is None else (frame.f_lasti, tuple(frame.f_locals.items()))
            return {CONTENTS: place}
        return {CONTENTS: (operator.length_hint(value, -1), _reduced(value))}

    def write(self, value: Object, slots: Slots) -> None:
        pass


class CacheSlots:
    """How many results an `lru_cache` holds. One result cannot be taken out again."""

    def read(self, value: Object) -> Slots:
        return {CONTENTS: value.cache_info().currsize}

    def write(self, value: Object, slots: Slots) -> None:
        if slots[CONTENTS] == 0:
            value.cache_clear()


class EnvironmentSlots:
    """The environment variables of this process."""

    def read(self, value: Object) -> Slots:
        return {("key", name): text for name, text in os.environ.items()}

    def write(self, value: Object, slots: Slots) -> None:
        wanted = {name: text for (_, name), text in slots.items()}
        for name in [name for name in os.environ if name not in wanted]:
            del os.environ[name]
        for name, text in wanted.items():
            if os.environ.get(name) != text:
                os.environ[name] = text


Reader = (
    ObjectSlots
    | LengthSlots
    | CellSlots
    | NameSlots
    | ClassSlots
    | FunctionSlots
    | ArraySlots
    | RandomSlots
    | IteratorSlots
    | CacheSlots
    | EnvironmentSlots
)

MOVED_BY_USE = (CacheSlots, IteratorSlots, RandomSlots)  # whoever asks such a thing changes it


def is_random(value: Object) -> bool:
    """Whether `value` is a random generator whose state moves when it is asked."""
    return isinstance(value, (np.random.Generator, np.random.RandomState, random.Random))


def is_whole(value: Object) -> bool:
    """Whether a change of length is shown as one change of the whole container."""
    return isinstance(value, (list, collections.deque, set))


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)


def _is_data(name: str, held: Object) -> bool:
    if (name.startswith("__") and name.endswith("__")) or name.startswith("_abc_"):
        return False
    code = (types.FunctionType, property, staticmethod, classmethod, functools.cached_property)
    return not isinstance(held, (*code, types.MemberDescriptorType, types.GetSetDescriptorType))


def _reduced(value: Object) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 deprecates this for itertools
            return repr(value.__reduce__())
    except Exception:  # what cannot be taken apart tells nothing
        return ""
