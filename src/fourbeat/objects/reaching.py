"""Finds every slot that a function can reach: its object, closures, globals it names, its arguments.

Globals are followed in the function's own packages alone; values are followed wherever they lead.
`reach_values` reads what plain objects hold. It follows values alone: it reads what a function closes over,
but not its globals.
"""

import collections
import enum
import functools
import types
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from fourbeat.objects import slots
from fourbeat.objects.constants import is_number, why_unusable, wrapped_function
from fourbeat.objects.families import CELLS, FUNCTIONS, OBJECTS, family_of, suffix
from fourbeat.objects.ownership import Ownership, is_of_a_library, is_users
from fourbeat.objects.snapshot import Holder, Snapshot, process_holders
from fourbeat.types import Object

_MAX_HOLDERS = 50_000  # a larger graph is the memory of a whole program
_MAX_ITEMS = 100_000  # in one container below a plain object; of a larger one only the length is read
_PLAIN = frozenset({bool, bytes, float, int, str, type(None)})
_SHARED = "shared"  # the role of a root whose attributes are read whatever its class is


def reach(
    roots: Iterable[tuple[str, Any]],
    own: Ownership,
    *,
    owner: str,
    skip: Iterable[Any] = (),
    shared: Iterable[tuple[str, Any]] = (),
) -> Snapshot:
    """Reads every slot that can be reached from named roots, and the slots of the process.

    Args:
      roots: pairs of a path and a value.
      own: gets the packages of all functions that are met as values.
      owner: the module that bare containers among the roots belong to.
      skip: arrays that are traced, whose contents cannot be written.
      shared: roots whose attributes count, even if a library made them.
    """
    walk = _Walk(own)
    walk.seen = {(id(value),) for value in skip}
    first = process_holders()
    walk.seen |= {holder.key for holder in first}
    named = [(path, value, owner, _SHARED) for path, value in shared]
    return Snapshot([*first, *walk.walk([*((path, value, owner, "") for path, value in roots), *named])])


def reach_arguments(roots: Iterable[tuple[str, Any]], own: Ownership, known: Snapshot) -> Snapshot:
    """Reads the containers of arguments that `known` has not read yet."""
    walk = _Walk(own, follow_functions=False)
    walk.seen = {holder.key for holder in known.holders}
    return Snapshot(walk.walk([(path, value, "", "") for path, value in roots]))


def reach_values(roots: Iterable[tuple[str, Any]]) -> Snapshot:
    """Reads the slots of plain objects and of all that they hold, by path.

    It reads what functions close over and the data of classes, and no globals. If a container
    has over 100,000 items or an array is above 64 MiB, it reads only the length. It reads at most 50,000
    objects.
    """
    walk = _ValuesWalk(Ownership())
    return Snapshot(walk.walk([(path, value, "", "") for path, value in roots]))


def holds_nothing(value: Object) -> bool:
    """Whether a value cannot be written and holds nothing that can be written."""
    if type(value) in _PLAIN:
        return True
    return is_number(value) or isinstance(value, (bool, str, bytes, jax.Array))


class _Walk:
    def __init__(self, own: Ownership, *, follow_functions: bool = True):
        self.own = own
        self.follow_functions = follow_functions
        self.queue: collections.deque[tuple[str, Any, str, str]] = collections.deque()
        self.holders: list[Holder] = []
        self.seen: set[tuple[Any, ...]] = set()
        self.alive: list[Any] = []  # kept alive, because the ids in `seen` must not be reused

    def walk(self, roots: list[tuple[str, Any, str, str]]) -> list[Holder]:
        """Breadth first, so that a thing gets its shortest path."""
        self.queue.extend(roots)
        while self.queue and len(self.holders) < _MAX_HOLDERS:
            path, value, owner, role = self.queue.popleft()
            try:
                self._visit(path, value, owner, role)
            except Exception:  # proxies and lazy modules may raise anything when they are looked at
                continue
        return self.holders

    def _visit(self, path: str, value: Object, owner: str, role: str) -> None:
        if holds_nothing(value):
            return
        if isinstance(value, (types.FunctionType, type)):
            if self.follow_functions:
                if not isinstance(value, type):
                    self.own.adopt(value.__module__)
                self._follow(path, value)
            return
        if isinstance(value, types.ModuleType):
            self._open_module(path, value)
            return
        reader = self._reader_of(value)
        if reader is None and role == _SHARED and _has_attributes(value):
            self._hold(path, value, slots.ObjectSlots(), owner, "")
        role = "" if role == _SHARED else role
        if reader is not None:
            held = self._hold(path, value, reader, owner, role)
            if isinstance(reader, slots.CacheSlots):
                self._push(path, wrapped_function(value), owner)
            elif isinstance(reader, slots.ObjectSlots) and held:
                self._children(held)
            return
        self._open(path, value, owner)

    def _reader_of(self, value: Object) -> slots.Reader | None:
        return _reader_of(value)

    def _children(self, held: Holder) -> None:
        kind = type(held.value)
        if self.follow_functions and self.own.owns(kind.__module__):
            self._follow(kind.__name__, kind)
        for label, child in held.slots.items():
            self._push(held.slot_path(label), child, held.owner)

    def _open(self, path: str, value: Object, owner: str) -> None:
        """Things without slots of their own: tuples, partials, bound methods, wrapped functions."""
        if not self._is_new(("opened", id(value)), value):
            return
        if isinstance(value, types.MethodType):
            self._push(path, value.__func__, owner)
            self._push(f"{path}.__self__" if path != "self" else path, value.__self__, owner)
            return
        family = family_of(value)
        if family is not None:
            parts = family.parts(value)
            for label, child in zip(parts.labels, parts.values, strict=True):
                self._push(path + suffix(label), child, owner)
        inner = wrapped_function(value)
        if inner is not None:
            self._push(path, inner, owner)
        if type(value).__module__.startswith("jax."):  # custom_vjp and custom_jvp hold their rules
            for child in getattr(value, "__dict__", {}).values():
                if isinstance(child, types.FunctionType):
                    self._push(path, child, owner)

    def _open_module(self, path: str, value: types.ModuleType) -> None:
        """The data of a module that is a value: it is not known which of its names a function uses."""
        if self.follow_functions and self.own.owns(value.__name__):
            code = (types.FunctionType, type, types.ModuleType)
            names = [name for name, held in vars(value).items() if not isinstance(held, code)]
            names = tuple(name for name in names if not name.startswith("__"))
            self._follow_names(names, vars(value), f"{path}.", value.__name__)

    def _follow(self, path: str, value: Object) -> None:
        if not self._is_new(("code", id(value)), value):
            return
        if isinstance(value, type):
            if self.own.owns(value.__module__):
                self._follow_class(value)
            return
        # `functools.wraps` copies `__module__`; the globals are those of the code
        module = value.__globals__.get("__name__") or ""
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            self._follow_cell(name, cell, module, value.__code__)
        self._push_parts(value.__name__, value, module)
        if self.own.owns(module):
            self._hold(value.__name__, value, slots.FunctionSlots(), module, "")
            self._follow_names(_names(value.__code__), value.__globals__, "", module)

    def _push_parts(self, path: str, value: types.FunctionType, module: str) -> None:
        """The defaults and the attributes of a function."""
        parts = FUNCTIONS.parts(value)
        for (kind, name), child in zip(parts.labels, parts.values, strict=True):
            if kind != "cell":
                self._push(f"{path}.__defaults__[{name!r}]", child, module)
        for name, child in vars(value).items():
            self._push(f"{path}.{name}", child, module)

    def _follow_cell(self, name: str, cell: types.CellType, module: str, code: types.CodeType) -> None:
        if name != "__class__":
            self._hold(name, cell, slots.CellSlots(), module, "nonlocal")
            for child in CELLS.parts(cell).values:
                if isinstance(child, types.ModuleType) and self.own.owns(child.__name__):
                    self._follow_names(_names(code), vars(child), f"{name}.", child.__name__)
                self._push(name, child, module)

    def _follow_names(self, names: tuple[str, ...], scope: dict[str, Any], prefix: str, module: str) -> None:
        """The globals of a function that its bytecode names, and through modules, their attributes."""
        for name in names:
            value = scope.get(name)
            if isinstance(value, types.ModuleType):
                if self.own.owns(value.__name__) and self._is_new(("module", id(value), *names), value):
                    self._follow_names(names, vars(value), f"{prefix}{name}.", value.__name__)
                continue
            key = (id(scope), name)
            if not self._is_new(key, scope):
                continue
            reader = slots.NameSlots(name)
            role = "" if prefix else "global"
            self.holders.append(
                Holder(key, prefix.rstrip("."), scope, reader, reader.read(scope), module, role)
            )
            if isinstance(value, (types.FunctionType, type)):
                if self.own.owns(value.__module__):
                    self._follow(f"{prefix}{name}", value)
            else:
                self._push(f"{prefix}{name}", value, module)

    def _follow_class(self, kind: type) -> None:
        for base in kind.__mro__:
            if base is object or not self.own.owns(base.__module__):
                continue
            held = self._hold(base.__name__, base, slots.ClassSlots(), base.__module__, "")
            if held is None:
                continue
            for label, child in held.slots.items():
                self._push(held.slot_path(label), child, base.__module__)
            for member in list(vars(base).values()):
                for function in _functions_of(member):
                    self._push(base.__name__, function, base.__module__)

    def _push(self, path: str, value: Object, owner: str) -> None:
        self.queue.append((path, value, owner, ""))

    def _hold(self, path: str, value: Object, reader: slots.Reader, owner: str, role: str) -> Holder | None:
        key = (id(value),)
        if not self._is_new(key, value):
            return None
        if isinstance(reader, slots.ObjectSlots):
            owner = self.own.owner_of(type(value), owner)
        self.holders.append(Holder(key, path, value, reader, reader.read(value), owner, role))
        return self.holders[-1]

    def _is_new(self, key: tuple[Any, ...], value: Object) -> bool:
        if key in self.seen:
            return False
        self.seen.add(key)
        self.alive.append(value)
        return True


class _ValuesWalk(_Walk):
    """Values alone: what a model holds beside its arrays."""

    def _reader_of(self, value: Object) -> slots.Reader | None:
        if isinstance(value, (list, dict, set, collections.deque)) and len(value) > _MAX_ITEMS:
            return slots.LengthSlots()
        if isinstance(value, np.ndarray) and value.nbytes > slots.MAX_COPIED_BYTES:
            return slots.LengthSlots()
        return _reader_of(value)

    def _visit(self, path: str, value: Object, owner: str, role: str) -> None:
        if isinstance(value, type):
            return
        if isinstance(value, types.FunctionType):
            if not is_of_a_library(value.__module__) and self._is_new((id(value),), value):
                self._close_over(path, value)
            return
        super()._visit(path, value, owner, role)

    def _children(self, held: Holder) -> None:
        for label, child in held.slots.items():
            self._push(held.slot_path(label), child, held.owner)
        for base in type(held.value).__mro__:
            if is_users(base.__module__):
                kind = self._hold(base.__name__, base, slots.ClassSlots(), base.__module__, "")
                for label, child in kind.slots.items() if kind else ():
                    self._push(f"{base.__name__}{suffix(label)}", child, base.__module__)

    def _close_over(self, path: str, value: types.FunctionType) -> None:
        self._hold(path, value, slots.FunctionSlots(), value.__module__, "")
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            held = self._hold(f"{path}.{name}", cell, slots.CellSlots(), value.__module__, "")
            for child in held.slots.values() if held and name != "__class__" else ():
                self._push(f"{path}.{name}", child, value.__module__)
        self._push_parts(path, value, value.__module__)


def _reader_of(value: Object) -> slots.Reader | None:
    if isinstance(value, (np.ndarray, bytearray)):
        is_object = isinstance(value, np.ndarray) and value.dtype.hasobject
        return None if is_object or not getattr(value, "flags", _WRITEABLE).writeable else slots.ArraySlots()
    if slots.is_random(value):
        return slots.RandomSlots()
    if isinstance(value, types.GeneratorType):
        return slots.IteratorSlots()
    unusable = why_unusable(value)
    if unusable is not None and "iterator" in unusable[0]:
        return slots.IteratorSlots()
    if isinstance(value, functools._lru_cache_wrapper):
        return slots.CacheSlots()
    return slots.ObjectSlots() if family_of(value) is OBJECTS else None


def _has_attributes(value: Object) -> bool:
    plain = (types.ModuleType, enum.Enum, tuple)
    return (
        hasattr(value, "__dict__") and not isinstance(value, plain) and type(value).__module__ != "builtins"
    )


_WRITEABLE = types.SimpleNamespace(writeable=True)


def _functions_of(member: Object) -> list[Any]:
    if isinstance(member, property):
        return [part for part in (member.fget, member.fset) if part]
    inner = getattr(member, "__func__", None) or getattr(member, "func", None) or member
    inner = wrapped_function(inner) or inner
    return [inner] if isinstance(inner, types.FunctionType) else []


def _names(code: types.CodeType) -> tuple[str, ...]:
    """Each name once, in the order of the code, so that findings have one order."""
    inner = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return tuple(dict.fromkeys([*code.co_names, *(name for each in inner for name in _names(each))]))
