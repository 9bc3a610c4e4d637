"""What is not state: values compared by value or by identity, and things that no method may touch."""

import array
import collections
import datetime
import decimal
import enum
import fractions
import functools
import io
import pathlib
import random
import sys
import types
import uuid
import weakref
from collections.abc import Iterator

import jax
import numpy as np
from flax import nnx

NNX_JITTED = type(nnx.jit(lambda: None))  # what `nnx.jit` makes of a function
NUMBER_TYPES = (int, float, complex, np.number)
_BY_VALUE = (
    *(str, bytes, bool, type(None), type(Ellipsis), slice, range, np.dtype, np.bool_),
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal),
    *(fractions.Fraction, pathlib.PurePath, uuid.UUID, np.datetime64, np.timedelta64),
)
_BY_IDENTITY = (type, types.ModuleType, types.CodeType, enum.Enum, types.BuiltinFunctionType)
_LIVE_VIEWS = (
    *(bytearray, memoryview, array.array, types.MappingProxyType),
    *(type({}.keys()), type({}.values()), type({}.items())),
)
_KNOWN_BASES = (
    *(object, list, dict, set, tuple, collections.deque, collections.OrderedDict),
    *(collections.defaultdict, BaseException, types.SimpleNamespace, functools.partial),
)


def is_number(value) -> bool:
    """Whether `value` is a number that a method may turn into state; bool is not."""
    return isinstance(value, NUMBER_TYPES) and not isinstance(value, (bool, enum.Enum))


def is_opaque(value) -> bool:
    """Whether `value` is kept as it is: never cloned, never looked into."""
    kind = type(value)
    if isinstance(value, (*_BY_VALUE, *_BY_IDENTITY, frozenset, np.ndarray)) or is_number(value):
        return True
    package = kind.__module__.partition(".")[0]
    if package == "fourbeat" and getattr(kind, "is_opaque", False):
        return True
    if package in ("jax", "jaxlib", "flax"):
        return jax.tree_util.default_registry.flatten_one_level(value) is None
    if package in ("collections", "types", "argparse", "dataclasses"):
        return False
    return package in sys.stdlib_module_names or not _is_heap_type(kind)


def why_unusable(value) -> tuple[str, str] | None:
    """What `value` is and its repair, if touching it in a compiled method cannot be right."""
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
        return (
            f"a {package} random generator, which a compiled call would ask once and repeat for ever",
            "keep a key, self.key = jax.random.key(seed), and split it in the method",
        )
    if isinstance(value, np.random.BitGenerator):
        return "a numpy bit generator", "keep a jax.random key instead"
    if isinstance(value, io.IOBase):
        return "an open file", "read it before and pass the array, or use jax.debug.callback"
    if isinstance(value, Iterator) and (not _is_heap_type(kind) or package == "itertools"):
        return (
            f"an iterator ({kind.__name__}), which a compiled call would advance once",
            "pass the next item as an argument, or keep an array and an index into it",
        )
    if isinstance(value, _LIVE_VIEWS):
        return f"a {kind.__name__}, which is memory of its own", "hold an array, a list or the dict"
    if isinstance(value, np.ndarray) and (kind is not np.ndarray or value.dtype.hasobject):
        return f"a {kind.__name__} of {value.dtype}", "hold a plain numeric array: np.asarray(...)"
    if _is_heap_type(kind) and hasattr(kind, "__del__") and package not in sys.stdlib_module_names:
        return (
            "an object whose class defines __del__, which would run for every copy of it",
            "keep it outside, and give the methods what they need as arguments",
        )
    if _has_foreign_base(kind) and not is_opaque(value):
        return f"a {kind.__name__}, which is built on a type written in C", "hold arrays instead"
    if isinstance(value, (types.CoroutineType, types.AsyncGeneratorType)):
        return f"a {kind.__name__}", "await it outside and pass the result"
    if isinstance(value, (weakref.ref, weakref.ProxyType)):
        return "a weak reference", "hold the object itself"
    if package in ("_thread", "threading", "queue", "_queue", "multiprocessing", "asyncio"):
        return (
            f"a {kind.__name__}, which guards one process's objects",
            "leave it outside: a pure function needs none",
        )
    return None


def wrapped_function(value):
    """The Python function inside a jitted, cached or otherwise wrapped callable, or None."""
    if isinstance(value, (types.FunctionType, types.MethodType, type, functools.partial)):
        return None
    try:
        inner = object.__getattribute__(value, "__wrapped__")
    except AttributeError:
        return None
    return inner if callable(inner) else None


def _is_heap_type(kind: type) -> bool:
    return bool(kind.__flags__ & (1 << 9))


def _has_foreign_base(kind: type) -> bool:
    """Whether instances hold more than Python can see: a base in C that is not a known container."""
    if not _is_heap_type(kind) or issubclass(kind, BaseException):
        return False
    return any(not _is_heap_type(base) and base not in _KNOWN_BASES for base in kind.__mro__)
