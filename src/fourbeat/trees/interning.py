"""Canonical, hashable forms of static values, and one shared object for each of them."""

import functools
import threading
import types
import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fourbeat.types import Object

_T = TypeVar("_T")


def canonical(value: Object) -> Hashable:
    """A hashable form of `value` that is equal for values built the same way.

    Partials and closures count by what they hold (function code, arguments, captured values), arrays
    by their contents, containers by their items, and numbers by type as well as value. An object
    without value semantics counts by identity.

    Args:
      value: any Python object: an attribute of a module, or the auxiliary data of a pytree node.

    Returns:
      A hashable. If it stands for the identity of `value`, it keeps `value` alive.

    >>> canonical(functools.partial(max, key=len)) == canonical(functools.partial(max, key=len))
    True
    >>> canonical(1) == canonical(True)
    False
    """
    return _canonical(value, ())


def _canonical(value: Object, open_ids: tuple[int, ...]) -> Hashable:
    if value is None or isinstance(value, str | bytes | type):
        return value
    if isinstance(value, bool | int | float | complex):
        return (type(value), repr(value))  # repr tells -0.0 from 0.0, and NaN equals itself
    if id(value) in open_ids:
        return ("cycle", len(open_ids) - open_ids.index(id(value)))

    def inner(item: Object) -> Hashable:
        return _canonical(item, (*open_ids, id(value)))

    if isinstance(value, functools.partial):
        arguments = tuple(map(inner, value.args)), inner(value.keywords)
        return ("partial", type(value), inner(value.func), arguments)
    if isinstance(value, types.FunctionType) and "<locals>" in value.__qualname__:
        return _canonical_closure(value, inner)
    if isinstance(value, types.MethodType):
        return ("method", inner(value.__func__), inner(value.__self__))
    if isinstance(value, Mapping):
        items = [(inner(k), inner(v)) for k, v in value.items()]
        return ("mapping", type(value), frozenset(items))
    if isinstance(value, list | tuple):
        return ("sequence", type(value), tuple(map(inner, value)))
    if isinstance(value, set | frozenset):
        return ("set", type(value), frozenset(map(inner, value)))
    if isinstance(value, jax.tree_util.PyTreeDef):
        return canonical_treedef(value)
    if isinstance(value, np.ndarray | jax.Array):
        return _canonical_array(value)
    return _by_own_equality(value)


def canonical_treedef(treedef: Object) -> Hashable:
    """The canonical form of a pytree structure, including the auxiliary data of its nodes.

    >>> canonical_treedef(jax.tree.structure((1, {"a": 2})))[0]
    'treedef'
    """
    node = treedef.node_data()
    children = tuple(map(canonical_treedef, treedef.children()))
    if node is None:
        return ("treedef", "leaf" if treedef.num_leaves else "none", children)
    node_type, auxiliary = node
    return ("treedef", node_type, canonical(auxiliary), children)


def _canonical_closure(function: types.FunctionType, inner: Callable) -> Hashable:
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(inner(cell.cell_contents))
        except ValueError:  # an empty cell
            cells.append("empty")
    defaults = inner(function.__defaults__), inner(function.__kwdefaults__)
    module = function.__globals__.get("__name__")
    return ("function", module, function.__code__, defaults, tuple(cells))


def _canonical_array(value: np.ndarray | jax.Array) -> Hashable:
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        data = np.asarray(jax.random.key_data(value))
    else:
        data = np.asarray(value)
    return ("array", type(value), str(value.dtype), value.shape, data.tobytes())


def _by_own_equality(value: Object) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return ById(value)
    return (type(value), value)


class ById:
    """A key that is equal only to keys of the same object. It keeps the object alive."""

    __slots__ = ("value",)

    def __init__(self, value: Object):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ById) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)

    def __repr__(self) -> str:
        return repr(self.value)


_interned: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def intern(key: Hashable, make: Callable[[], _T]) -> _T:
    """The one object for `key`: the existing one, or else the one that `make` gives now.

    Objects compare by identity afterwards, which costs nothing when `jax.jit` looks for a compiled
    program. An object that is no longer held anywhere is forgotten.

    >>> class Spec: ...
    >>> held = intern(("spec", 1), Spec)
    >>> intern(("spec", 1), Spec) is held
    True
    """
    with _lock:
        found = _interned.get(key)
        if found is None:
            found = make()
            _interned[key] = found
        return found
