"""NumPy arrays that a method writes in place, as write-through boxes around a JAX array.

A view of a box is a box on the same store with an array of positions, so every NumPy view (slices,
`reshape`, `T`, `ravel`) writes where NumPy would write.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from fourbeat.functional.in_place import OPERATORS, line_of_caller
from fourbeat.objects.lines import Line
from fourbeat.types import Object

_VIEWS = (  # functions whose result shows the memory of their first argument
    *(np.ravel, np.reshape, np.transpose, np.swapaxes, np.moveaxis, np.rollaxis, np.squeeze, np.expand_dims),
    *(np.flip, np.fliplr, np.flipud, np.rot90, np.atleast_1d, np.atleast_2d, np.atleast_3d),
    *(np.split, np.array_split, np.vsplit, np.hsplit, np.dsplit),
)


class Store:
    """The memory behind a box and all its views: an array that is replaced at every write.

    `was_copied` says that NumPy copied the box; it would have used a plain array without a copy. `unsure`
    holds the lines where an operator such as `+=` met a traced value: in an ordinary call that value may be
    a NumPy or a JAX array.
    """

    def __init__(self, value: Object, path: str, node: Object = None):
        self.value = value
        self.path = path
        self.node = node
        self.written = False
        self.was_copied = False
        self.unsure: set[Line] = set()


class NumpyBox(np.lib.mixins.NDArrayOperatorsMixin):
    """Reads like the array it holds and passes every write on to its store."""

    __array_priority__ = 1_000

    def __init__(self, store: Store, positions: Object = None):
        self._store = store
        self._positions = positions

    @property
    def value(self):
        """The array shown now: NumPy until the first write, JAX after it."""
        if self._positions is None:
            return self._store.value
        return self._store.value.reshape(-1)[self._positions]

    @property
    def store(self) -> Store:
        """What this box shares with its views."""
        return self._store

    @property
    def is_whole(self) -> bool:
        """Whether this is the array itself, not a view of it."""
        return self._positions is None

    T = property(lambda self: self._view(lambda positions: positions.T))
    flat = property(lambda self: self.ravel())

    def __getitem__(self, index):
        index = _plain(index)
        parts = index if isinstance(index, tuple) else (index,)
        value = jnp.asarray(self.value) if any(isinstance(p, jax.Array) for p in parts) else self.value
        if not _is_basic(index):
            return value[index]
        shown = self._where(index)[index]
        return value[index] if shown.ndim == 0 else NumpyBox(self._store, shown)

    def __setitem__(self, index, value):
        index = _plain(index)
        store = self._store
        new = _cast(_plain(value), self.dtype)
        if self._positions is None:
            current = jnp.asarray(store.value)
            if _is_traced_mask(index) and new.ndim <= current.ndim - index.ndim:
                mask = index.reshape(index.shape + (1,) * (current.ndim - index.ndim))
                store.value = jnp.where(mask, new, current)
            else:
                store.value = current.at[index].set(new)
        else:
            where = self._where(index)[index]
            flat = jnp.asarray(store.value).reshape(-1)
            flat = flat.at[where.reshape(-1)].set(jnp.broadcast_to(new, where.shape).reshape(-1))
            store.value = flat.reshape(store.value.shape)
        store.written = True

    def __len__(self):
        return len(self.value)

    def __iter__(self):
        return (self[position] for position in range(len(self)))

    def __bool__(self):
        return bool(self.value)

    def __int__(self):
        return int(self.value)

    def __float__(self):
        return float(self.value)

    def __index__(self):
        return self.value.__index__()

    def __array__(self, dtype=None, copy=None):
        self._store.was_copied |= not copy
        return np.array(self.value, dtype=dtype)

    def __jax_array__(self):
        return jnp.asarray(self.value)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, where=True, **keywords):
        if method == "at":
            target, index, *operand = inputs
            target._at(ufunc, _plain(index), *map(_plain, operand))
            return None
        inputs = [_plain(item) for item in inputs]
        function = _counterpart(ufunc, inputs)
        result = (function if method == "__call__" else getattr(function, method))(*inputs, **keywords)
        if out is None:
            return result if where is True else jnp.where(_plain(where), result, 0)
        (target,) = out
        if not np.can_cast(np.dtype(result.dtype), np.dtype(target.dtype), "same_kind"):
            raise TypeError(
                f"Cannot cast ufunc {ufunc.__name__!r} output from {result.dtype!r} to "
                f"{target.dtype!r} with casting rule 'same_kind'"
            )
        target[...] = result if where is True else jnp.where(_plain(where), result, target.value)
        return target

    def __array_function__(self, function, types, args, kwargs):
        if function is np.copyto:
            args[0][...] = args[1]
            return None
        if function in _VIEWS and isinstance(args[0], NumpyBox):
            return args[0]._view(lambda positions: function(positions, *args[1:], **kwargs))
        args, kwargs = jax.tree.map(_plain, (args, kwargs), is_leaf=_is_box)
        inputs = jax.tree.leaves((args, kwargs))
        return _counterpart(function, inputs)(*args, **kwargs)

    def __setattr__(self, name, value):
        if name not in ("_store", "_positions"):  # NumPy would write into the memory, or change the array
            path = self._store.path
            raise AttributeError(f"{path}.{name} cannot be set here: write {path}[...] = ...")
        object.__setattr__(self, name, value)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.value, name)

    def fill(self, value) -> None:
        """Set every element."""
        self[...] = value

    def sort(self, axis=-1) -> None:
        """Sort in place along one axis."""
        self[...] = jnp.sort(jnp.asarray(self.value), axis=axis)

    def put(self, index, values) -> None:
        """Set elements of the flattened array."""
        self.ravel()[np.asarray(index)] = values

    def copy(self):
        """An array of its own."""
        return jnp.asarray(self.value)

    def tolist(self):
        """Nested lists of what is shown."""
        return np.asarray(self).tolist()

    def __repr__(self):
        return f"NumpyBox({self._store.path}: {self.value!r})"

    def _at(self, ufunc: np.ufunc, index: Object, operand: Object = None) -> None:
        current = jnp.asarray(self.value)
        update = {"add": "add", "multiply": "multiply", "maximum": "max", "minimum": "min"}
        if ufunc.__name__ == "subtract":
            self[...] = current.at[index].add(-_cast(operand, self.dtype))
        elif ufunc.__name__ in update:
            changed = getattr(current.at[index], update[ufunc.__name__])
            self[...] = changed(_cast(operand, self.dtype))
        else:
            raise TypeError(f"numpy.{ufunc.__name__}.at has no JAX form; use add, multiply, max or min")

    def _where(self, index: Object = ()) -> Any:
        """Where in the store each element shown lies; a JAX array where `index` is traced."""
        shown = self._positions
        if shown is None:
            shown = np.arange(self._store.value.size).reshape(self._store.value.shape)
        parts = index if isinstance(index, tuple) else (index,)
        return jnp.asarray(shown) if any(isinstance(p, jax.Array) for p in parts) else shown

    def _view(self, change):
        """One view, or a list of views if `change` gives a list of positions."""
        shown = change(self._where())
        if isinstance(shown, list):
            return [NumpyBox(self._store, each) for each in shown]
        return NumpyBox(self._store, shown)


def _showing(name: str) -> Any:
    """A method of arrays whose result shows the same memory."""

    def view(box: NumpyBox, *args: Any, **keywords: Any) -> Any:
        return box._view(lambda positions: getattr(positions, name)(*args, **keywords))

    return view


for _name in ("reshape", "ravel", "transpose", "swapaxes", "squeeze", "view"):
    setattr(NumpyBox, _name, _showing(_name))


def _in_place(name: str) -> Any:
    operator = getattr(np.lib.mixins.NDArrayOperatorsMixin, name)

    def write(box: NumpyBox, other: Object) -> Any:
        if isinstance(other, jax.Array):
            box.store.unsure.add(line_of_caller(1))
        return operator(box, other)

    return write


for _name in OPERATORS:
    setattr(NumpyBox, _name, _in_place(_name))


def unboxed(tree):
    """The same pytree with plain arrays in place of boxes."""
    return jax.tree.map(lambda leaf: _plain(leaf) if _is_box(leaf) else leaf, tree, is_leaf=_is_box)


def _is_box(value) -> bool:
    return isinstance(value, NumpyBox)


def _plain(value: Object) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, list):
        return np.asarray(value)
    return value.value if isinstance(value, NumpyBox) else value


def _is_basic(index) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    basic = (int, np.integer, slice, type(None), type(Ellipsis))
    return all(
        (isinstance(part, basic) and not isinstance(part, bool)) or _is_traced_integer(part) for part in parts
    )


def _is_traced_integer(part: Object) -> bool:
    return isinstance(part, jax.Array) and part.ndim == 0 and part.dtype != bool


def _is_traced_mask(index: Object) -> bool:
    return isinstance(index, jax.Array) and index.dtype == bool and index.ndim > 0


def _cast(value: Object, dtype: DTypeLike) -> jax.Array:
    return jnp.asarray(value).astype(jax.dtypes.canonicalize_dtype(dtype))


def _counterpart(function, inputs):
    if any(isinstance(item, jax.Array) for item in inputs):
        inner = getattr(jnp.linalg, function.__name__, None)
        if (function.__module__ or "").startswith("numpy.linalg") and inner is not None:
            return inner
        found = getattr(jnp, function.__name__, None)
        if found is None:
            raise TypeError(f"numpy.{function.__name__} has no jax.numpy form for a traced array")
        return found
    return function
