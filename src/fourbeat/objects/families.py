"""How each kind of composite is taken apart and put together again.

A family names the parts of a value with labels, and makes a value of the same type from parts.
Mutable families make an empty `shell` first and `fill` it later, so cycles and aliases come back;
the same `fill` writes a state into a live object.
"""

import collections
import dataclasses
import functools
import types
from typing import Any

from fourbeat.objects.attributes import attributes, set_attributes
from fourbeat.objects.constants import is_opaque
from fourbeat.trees.interning import ById
from fourbeat.types import Object

Label = tuple[str, Any]


@dataclasses.dataclass(frozen=True)
class Contents:
    """A value taken apart: what is fixed about it, and its named parts in order."""

    fixed: Object
    labels: tuple[Label, ...]
    values: tuple[Any, ...]


class Objects:
    """Everything with a mutable identity: instances, lists, dicts, deques, sets and subclasses."""

    def parts(self, value) -> Contents:
        kind, labels, values = type(value), [], []
        if kind not in (list, dict, set):
            for name, part in attributes(value):
                labels.append(("attr", name))
                values.append(part)
        if isinstance(value, (list, collections.deque)):
            labels += [("item", position) for position in range(len(value))]
            values += list(value)
        elif isinstance(value, dict):
            base = _base_of(kind)  # an OrderedDict keeps its order beside the dict below it
            labels += [("key", key) for key in base.keys(value)]
            values += [base.__getitem__(value, key) for key in base.keys(value)]
        elif isinstance(value, set):
            ordered = sorted(value, key=lambda item: (type(item).__name__, repr(item)))
            labels += [("element", item) for item in ordered]
            values += ordered
        fixed = value.maxlen if isinstance(value, collections.deque) else None
        return Contents(fixed, tuple(labels), tuple(values))

    def shell(self, kind: type, fixed):
        made = _base_of(kind).__new__(kind)
        if isinstance(made, collections.deque):
            collections.deque.__init__(made, (), fixed)
        return made

    def fill(self, made, labels, values) -> None:
        wanted = list(zip(labels, values, strict=True))
        if type(made) not in (list, dict, set):
            set_attributes(made, {name: part for (kind, name), part in wanted if kind == "attr"})
        items = [part for (kind, _), part in wanted if kind == "item"]
        if isinstance(made, list):
            list.__setitem__(made, slice(None), items)
        elif isinstance(made, collections.deque):
            collections.deque.clear(made)
            collections.deque.extend(made, items)
        elif isinstance(made, dict):
            base: Any = _base_of(type(made))
            base.clear(made)
            for (kind, key), part in wanted:
                if kind == "key":
                    base.__setitem__(made, key, part)
        elif isinstance(made, set):
            set.clear(made)
            set.update(made, [part for (kind, _), part in wanted if kind == "element"])


class Tuples:
    """Tuples and named tuples."""

    def parts(self, value) -> Contents:
        names = getattr(type(value), "_fields", None)
        labels = [("attr", name) for name in names] if names else [("item", i) for i in range(len(value))]
        return Contents(None, tuple(labels), tuple(value))

    def make(self, kind: type, fixed, labels, values):
        return tuple.__new__(kind, values)


class Functions:
    """Python functions: code, globals and name are fixed; cells and defaults are parts."""

    def parts(self, value) -> Contents:
        names, cells = value.__code__.co_freevars, value.__closure__ or ()
        labels = [("cell", name) for name in names]
        labels += [("default", i) for i in range(len(value.__defaults__ or ()))]
        labels += [("keyword", name) for name in value.__kwdefaults__ or ()]
        values = (*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        fixed = (value.__code__, ById(value.__globals__), value.__name__, _own_attributes(value))
        return Contents(fixed, tuple(labels), values)

    def make(self, kind: type, fixed, labels, values):
        code, scope, name, own = fixed
        pairs = list(zip(labels, values, strict=True))
        made = types.FunctionType(
            code,
            scope.value,
            name,
            tuple(part for (kind_, _), part in pairs if kind_ == "default") or None,
            tuple(part for (kind_, _), part in pairs if kind_ == "cell") or None,
        )
        keywords = {name_: part for (kind_, name_), part in pairs if kind_ == "keyword"}
        made.__kwdefaults__ = keywords or None
        if own is not None:
            made.__dict__ = own.value
        return made


def _own_attributes(function: types.FunctionType) -> ById | None:
    """The attributes that a function carries, which all its clones share; None where there are none."""
    held = function.__dict__
    return ById(held) if held.keys() - {"__wrapped__"} else None


class Cells:
    """Closure cells: shared between closures, and the place of a nonlocal."""

    def parts(self, value) -> Contents:
        try:
            return Contents(None, (("content", None),), (value.cell_contents,))
        except ValueError:  # a name that has not been assigned yet
            return Contents(None, (), ())

    def shell(self, kind: type, fixed):
        return types.CellType()

    def fill(self, made, labels, values) -> None:
        for part in values:
            made.cell_contents = part


class Methods:
    """Bound methods of Python classes."""

    def parts(self, value) -> Contents:
        labels = (("function", None), ("self", None))
        return Contents(None, labels, (value.__func__, value.__self__))

    def make(self, kind: type, fixed, labels, values):
        return types.MethodType(*values)


class BuiltinMethods:
    """Bound methods of lists, dicts, deques and sets, such as `items.append`."""

    def parts(self, value) -> Contents:
        return Contents(value.__name__, (("self", None),), (value.__self__,))

    def make(self, kind: type, fixed, labels, values):
        return getattr(values[0], fixed)


class Partials:
    """`functools.partial` and its subclasses."""

    def parts(self, value) -> Contents:
        labels = [("attr", "func")]
        labels += [("argument", i) for i in range(len(value.args))]
        labels += [("keyword", name) for name in value.keywords]
        return Contents(None, tuple(labels), (value.func, *value.args, *value.keywords.values()))

    def make(self, kind: type, fixed, labels, values):
        pairs = list(zip(labels, values, strict=True))
        keywords = {name: part for (kind_, name), part in pairs if kind_ == "keyword"}
        return kind(values[0], *values[1 : len(values) - len(keywords)], **keywords)


Mutable = Objects | Cells
Immutable = Tuples | Functions | Methods | BuiltinMethods | Partials
Family = Mutable | Immutable
OBJECTS, TUPLES, FUNCTIONS, CELLS = Objects(), Tuples(), Functions(), Cells()
METHODS, BUILTIN_METHODS, PARTIALS = Methods(), BuiltinMethods(), Partials()
_CONTAINERS = (list, dict, collections.deque, set)


def family_of(value) -> Family | None:
    """The family that takes `value` apart, or None where it is kept as it is."""
    kind = type(value)
    if kind in _CONTAINERS or kind is types.SimpleNamespace:
        return OBJECTS
    if kind is types.FunctionType:
        return FUNCTIONS
    if kind is types.CellType:
        return CELLS
    if kind is types.MethodType:
        return METHODS
    if kind is types.BuiltinMethodType and isinstance(value.__self__, _CONTAINERS):
        return BUILTIN_METHODS
    if isinstance(value, functools.partial):
        return PARTIALS
    if isinstance(value, tuple) and kind.__module__ != "time":  # struct_time is a constant
        return TUPLES
    return None if is_opaque(value) else OBJECTS


def suffix(label: Label) -> str:
    """How a label reads at the end of a path."""
    kind, name = label
    if kind in ("attr", "cell", "keyword"):
        return "" if name in ("_raw_value", "_mapping") else f".{name}"
    if kind in ("content", "self", "function"):
        return {"content": "", "self": ".__self__", "function": ".__func__"}[kind]
    return f"[{name!r}]" if kind in ("item", "key") else f".{kind}[{name!r}]"


def _base_of(kind: type) -> Any:
    """The built-in type below `kind`, whose constructor and methods run no code of the user's."""
    bases = (list, collections.deque, collections.OrderedDict, collections.defaultdict, dict, set)
    others = (BaseException, types.SimpleNamespace, object)
    return next(base for base in (*bases, *others) if issubclass(kind, base))
