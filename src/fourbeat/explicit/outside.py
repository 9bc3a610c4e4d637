"""What a method can reach beside its objects: globals, class attributes, closures, defaults.

A state cannot carry these, so a write to one of them is put back and refused. An entry that a dict or a
class gained may stay where it is a memo: the method runs once more, and must leave alone what it finds.
"""

import collections
import contextlib
import dataclasses
import enum
import functools
import random
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fourbeat.explicit import refusals
from fourbeat.explicit.interning import canonical
from fourbeat.explicit.slots import (
    ABSENT,
    added_keys,
    contents_changed,
    digest,
    holds_tracer,
    listed,
    read_slot,
    same_value,
    short,
    write_slot,
)
from fourbeat.explicit.specs import AnyNode, Constant, Node, Spec
from fourbeat.objects.families import CELLS, OBJECTS, family_of
from fourbeat.objects.probing import stand_in

_MAX_WATCHED = 5_000  # objects; beyond it a graph is some program's whole memory
_MAX_COPIED = 1 << 26  # bytes of a NumPy array that is copied; of a larger one a checksum is kept


@dataclasses.dataclass(frozen=True)
class _Addition:
    """An entry that a dict or a class gained."""

    text: str
    holder: Any
    name: Any
    value: Any
    before: str
    after: str

    def now(self) -> Any:
        return vars(self.holder).get(self.name) if self._is_class else self._dict.get(self.holder, self.name)

    def put(self, value: Any) -> None:
        if self._is_class:
            type.__setattr__(self.holder, self.name, value)
        else:
            self._dict.__setitem__(self.holder, self.name, value)

    def remove(self) -> None:
        if self._is_class:
            type.__delattr__(self.holder, self.name)
        else:
            self._dict.pop(self.holder, self.name)

    @property
    def _is_class(self) -> bool:
        return isinstance(self.holder, type)

    @property
    def _dict(self) -> Any:
        """The built-in type, whose methods run no code of the user's."""
        return collections.OrderedDict if isinstance(self.holder, collections.OrderedDict) else dict


class Outside:
    """A snapshot of every slot that the functions of a state can name."""

    def __init__(self, spec: Spec):
        self._slots: list[tuple[str, Any, str, Any]] = []
        self._contents: list[tuple[str, Any, Any]] = []
        self._classes: list[tuple[type, set[str]]] = []
        self._caches: list[tuple[str, Any, int]] = []
        self._seen: set[int] = set()
        kinds = dict.fromkeys(kind for root in spec.roots for kind in _kinds(root))
        starts = [fixed for root in spec.roots for fixed in _functions(root)]
        modules = [kind.__module__ for kind in kinds]
        modules += [scope.value.get("__name__") or "" for _, scope, _ in starts]
        self._packages = {name.partition(".")[0] for name in modules}
        self._packages -= {"builtins", "collections", "functools", "jax", "flax", "optax", "numpy"}
        for kind in kinds:
            self._watch_class(kind)
        self._generators = (random.getstate(), np.random.get_state(legacy=False))
        for root in spec.roots:
            for constant in _constants(root):
                self._watch_attributes(constant)
        for code, scope, _ in starts:
            self._watch_code(code, scope.value)

    def check(self, name: str, again: Callable[[], Any]) -> None:
        """Puts every write back, and raises for the first one; what turns out to be a memo stays.

        Args:
          name: of the method, for errors.
          again: runs the method once more on a clone of its own.
        """
        errors = [*self._slot_errors(name), *self._content_errors(name)]
        errors += [*self._cache_errors(name), *self._generator_errors(name)]
        added = list(self._additions())
        if added and not errors:
            written = [each for each in added if holds_tracer(each.value)] or self._rewritten(added, again)
            errors = [refusals.wrote_outside(name, each.text, each.before, each.after) for each in written]
            errors += [*self._slot_errors(name), *self._content_errors(name)]  # of finding the memo filled
        if errors:
            for each in self._additions():
                each.remove()
            raise errors[0]

    def put_back(self) -> None:
        """Puts every write back, memos too."""
        for _ in (*self._slot_errors(""), *self._content_errors(""), *self._generator_errors("")):
            pass
        for each in self._additions():
            each.remove()

    def _rewritten(self, added: list[_Addition], again: Callable[[], Any]) -> list[_Addition]:
        """The entries that the method writes whatever stands there, and others that it adds now."""
        with contextlib.suppress(Exception):  # the call before worked; what this one raises is not news
            again()
        places = {(id(each.holder), each.name) for each in added}
        written = [each for each in added if not same_value(each.value, each.now())]
        written += [each for each in self._additions() if (id(each.holder), each.name) not in places]
        if written:
            return written
        held = [stand_in(each.value) for each in added]
        for each, stands_in in zip(added, held, strict=True):
            each.put(stands_in)
        with contextlib.suppress(Exception):  # who reads a stand-in may raise anything
            again()
        written = [each for each, stands_in in zip(added, held, strict=True) if each.now() is not stands_in]
        for each in added:
            each.put(each.value)
        return written

    def _slot_errors(self, name: str) -> Iterator[Exception]:
        for text, holder, slot, before in self._slots:
            after = read_slot(holder, slot)
            if after is not before:
                write_slot(holder, slot, before)
                if not same_value(before, after):
                    yield refusals.wrote_outside(name, text, short(before), short(after))

    def _generator_errors(self, name: str) -> Iterator[Exception]:
        python, numpy = self._generators
        if random.getstate() != python:
            random.setstate(python)
            yield refusals.drew_globally(name, "random")
        if canonical(np.random.get_state(legacy=False)) != canonical(numpy):
            np.random.set_state(numpy)
            yield refusals.drew_globally(name, "numpy.random")

    def _cache_errors(self, name: str) -> Iterator[Exception]:
        for text, cache, misses in self._caches:
            if cache.cache_info().misses != misses:
                yield refusals.filled_cache(name, text)

    def _additions(self) -> Iterator[_Addition]:
        for kind, names in self._classes:
            for name, value in list(vars(kind).items()):
                if name not in names and not _is_dunder(name) and not name.startswith("_abc"):
                    text = f"the class attribute {kind.__name__}.{name}"
                    yield _Addition(text, kind, name, value, "absent", short(value))
        for text, value, before in self._contents:
            if isinstance(value, dict):
                after = OBJECTS.parts(value)
                for key, part in added_keys(before, after).items():
                    yield _Addition(text, value, key, part, listed(before), listed(after))

    def _content_errors(self, name: str) -> Iterator[Exception]:
        for text, value, before in self._contents:
            if isinstance(value, np.ndarray):
                if isinstance(before, int):
                    if digest(value) != before:
                        yield refusals.wrote_large_array(name, text, value.nbytes)
                elif not np.array_equal(value, before, equal_nan=value.dtype.kind in "fc"):
                    np.copyto(value, before)
                    yield refusals.wrote_outside(name, text, "its contents", "others")
                continue
            after = OBJECTS.parts(value)
            changed = contents_changed(before, after)
            if changed:
                OBJECTS.fill(value, before.labels, before.values)
                yield refusals.wrote_outside(name, text, listed(before), listed(after))

    def _watch_class(self, kind: type) -> None:
        if id(kind) in self._seen or not self._is_own(kind):
            return
        self._seen.add(id(kind))
        for base in kind.__mro__:
            if base is object or not self._is_own(base):
                continue
            self._classes.append((base, set(vars(base))))
            for name, value in list(vars(base).items()):
                if isinstance(value, functools._lru_cache_wrapper):  # keyed by the object
                    text = f"the cache of {base.__name__}.{name}"
                    self._caches.append((text, value, value.cache_info().misses))
                function = _function_of(value)
                if function is not None:
                    for part in function:
                        self._watch_function(part)
                elif not name.startswith("_abc") and not _is_dunder(name):
                    self._slots.append((f"the class attribute {base.__name__}.{name}", base, name, value))
                    self._watch_value(f"the class attribute {base.__name__}.{name}", value)

    def _watch_function(self, function: Any) -> None:
        function = getattr(function, "__func__", function)
        if not isinstance(function, types.FunctionType):
            if isinstance(function, type):
                self._watch_class(function)
            return
        if id(function) in self._seen or not self._is_own(function):
            return
        self._seen.add(id(function))
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._watch_value(f"a default argument of {function.__name__}", value)
        self._watch_cells(function)
        self._watch_code(function.__code__, function.__globals__)

    def _watch_code(self, code: types.CodeType, scope: dict[str, Any]) -> None:
        if (scope.get("__name__") or "").partition(".")[0] not in self._packages:
            return
        for name in _names(code):
            if name in scope or name in _stored_globals(code):
                value = scope.get(name, ABSENT)
                self._slots.append((f"the global {name}", scope, name, value))
                self._watch_value(f"the global {name}", value)

    def _watch_cells(self, function: types.FunctionType) -> None:
        names = function.__code__.co_freevars
        for name, cell in zip(names, function.__closure__ or (), strict=True):
            if name != "__class__" and CELLS.parts(cell).values:
                text = f"the closure variable {name}"
                self._slots.append((text, cell, "cell_contents", cell.cell_contents))
                self._watch_value(text, cell.cell_contents)

    def _watch_attributes(self, constant: Constant) -> None:
        """An object that is shared and not cloned, such as a logger or a sentinel."""
        value = constant.value
        if _is_shared_object(value) and id(value) not in self._seen:
            self._seen.add(id(value))
            self._contents.append((constant.path, value, OBJECTS.parts(value)))

    def _watch_value(self, text: str, value: Any) -> None:
        if isinstance(value, (types.FunctionType, type)):
            self._watch_function(value)
            return
        if id(value) in self._seen or len(self._contents) > _MAX_WATCHED:
            return
        if type(value) is np.ndarray and not value.dtype.hasobject:
            self._seen.add(id(value))
            if value.flags.writeable:
                before = digest(value) if value.nbytes > _MAX_COPIED else value.copy()
                self._contents.append((text, value, before))
        elif family_of(value) is OBJECTS:
            self._seen.add(id(value))
            parts = OBJECTS.parts(value)
            self._contents.append((text, value, parts))
            for part in parts.values[:_MAX_WATCHED]:
                self._watch_value(text, part)
        elif isinstance(value, tuple):
            for part in value:
                self._watch_value(text, part)

    def _is_own(self, thing: Any) -> bool:
        return (thing.__module__ or "").partition(".")[0] in self._packages


def _function_of(value: Any) -> tuple[Any, ...] | None:
    if isinstance(value, property):
        return tuple(part for part in (value.fget, value.fset) if part)
    inner = getattr(value, "__func__", None) or getattr(value, "func", None) or value
    inner = getattr(inner, "__wrapped__", inner)
    return (inner,) if isinstance(inner, types.FunctionType) else None


def _is_shared_object(value: Any) -> bool:
    plain = (type, types.ModuleType, types.FunctionType, enum.Enum, np.ndarray, str, tuple)
    return (
        not isinstance(value, plain) and hasattr(value, "__dict__") and type(value).__module__ != ("builtins")
    )


def _constants(node: AnyNode) -> Iterator[Constant]:
    if isinstance(node, Constant) and node.error is None:
        yield node
    elif isinstance(node, Node):
        for child in node.children:
            yield from _constants(child)


def _kinds(node: AnyNode) -> Iterator[type]:
    if isinstance(node, Node):
        yield node.kind
        for child in node.children:
            yield from _kinds(child)


def _functions(node: AnyNode) -> Iterator[tuple[types.CodeType, Any, str]]:
    """Code, globals and name of the functions that the objects hold."""
    if isinstance(node, Node):
        if node.kind is types.FunctionType:
            yield node.fixed
        for child in node.children:
            yield from _functions(child)


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found


def _stored_globals(code: types.CodeType) -> set[str]:
    import dis

    stored = {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_GLOBAL"}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            stored |= _stored_globals(constant)
    return stored


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
