"""What an instance holds: its slots and its `__dict__`, read and written below its class's code."""

import collections
import dataclasses
import functools
import sys
import types
from collections.abc import Mapping
from typing import Any

from flax import nnx

from fourbeat.trees.flat import FLAT, fields_of


def attributes(value) -> list[tuple[str, Any]]:
    """What an instance holds in its slots and its `__dict__`, in the order it was set.

    Dataclasses keep the order of their fields and NNX objects are sorted by name: as pytrees they
    are taken apart and put together in another order than they were set in.
    """
    found = []
    for name, slot in _slots(type(value)).items():
        try:
            found.append((name, slot.__get__(value)))
        except AttributeError:  # declared and not set
            continue
    found += list(_dict_of(value).items())
    if isinstance(value, nnx.Pytree):
        return sorted(found, key=lambda item: item[0])
    if dataclasses.is_dataclass(value):
        order = {field.name: i for i, field in enumerate(dataclasses.fields(value))}
        return sorted(found, key=lambda item: order.get(item[0], len(order)))
    return found


def is_sentinel(value, scope: dict[str, Any] | None) -> bool:
    """Whether `value` is an empty instance that a module holds as a name, to be compared with `is`."""
    if isinstance(value, (tuple, list, dict, set, collections.deque)) or attributes(value):
        return False
    module = sys.modules.get(type(value).__module__)
    scopes = [vars(module) if module else {}, scope or {}]
    return any(held is value for names in scopes for held in list(names.values()))


def set_attributes(made, wanted: Mapping[str, Any]) -> None:
    """Makes `wanted` exactly what an instance holds; works on frozen classes too."""
    slots = _slots(type(made))
    held = _dict_of(made)
    for name, slot in slots.items():
        if name in wanted:
            slot.__set__(made, wanted[name])
        elif any(name == present for present, _ in attributes(made)):
            slot.__delete__(made)
    for name in [name for name in held if name not in wanted]:
        del held[name]
    held.update({name: part for name, part in wanted.items() if name not in slots})


@functools.cache
def _slots(kind: type) -> dict[str, Any]:
    found = {}
    for base in reversed(kind.__mro__):
        if "__slots__" in vars(base):
            for name, member in vars(base).items():
                if isinstance(member, types.MemberDescriptorType):
                    found[name] = member
    if issubclass(kind, collections.defaultdict):
        found["default_factory"] = collections.defaultdict.__dict__["default_factory"]
    return found


def _dict_of(value) -> dict[str, Any]:
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    if FLAT in held:  # a read makes the fields, and is no write
        object.__setattr__(value, "__dict__", held := fields_of(held))
    return held
