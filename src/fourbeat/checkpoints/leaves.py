"""Leaves: copied out of a tree that training goes on with, and put back as another tree holds them."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fourbeat.checkpoints.parts import Box, box_of, over_data, whole
from fourbeat.data.placement import copies_in_place, place_like, place_own_parts, prepare_copies
from fourbeat.distributed import num_processes
from fourbeat.types import Object, Tree

_PYTHON_SCALARS = {  # bool before int: it is one of them
    bool: np.bool_, int: np.int64, float: np.float64, complex: np.complex128, str: np.uint8,
}  # fmt: skip


class LeafKind(NamedTuple):
    """What two leaves must have in common for one to take the other's place.

    Attributes:
      dtype: a NumPy name, "key<fry>" for typed PRNG keys, or "Python int" and the like.
      shape: the leaf's shape; () for Python scalars.
    """

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return self.dtype + ("" if self.dtype.startswith("Python") else f"[{','.join(map(str, self.shape))}]")


def kind_of(leaf: Object) -> LeafKind:
    """The kind of a leaf: a jax or NumPy array, deleted or not, a `jax.ShapeDtypeStruct`, a scalar.

    Raises:
      TypeError: a leaf of this type cannot be saved.

    >>> str(kind_of(jnp.ones((2, 3)))), str(kind_of(4)), str(kind_of(jax.random.key(0)))
    ('float32[2,3]', 'Python int', 'key<fry>[]')
    """
    if isinstance(leaf, np.ndarray | np.generic) and (leaf.dtype.names or leaf.dtype.kind in "OSUmM"):
        raise TypeError(f"a NumPy array of dtype {leaf.dtype} cannot be saved")
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and _holds_keys(leaf):
        return LeafKind(str(leaf.dtype), leaf.shape)
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct | np.ndarray | np.generic):
        return LeafKind(_name_of(leaf.dtype), leaf.shape)
    for python_type in _PYTHON_SCALARS:
        if isinstance(leaf, python_type):
            return LeafKind(f"Python {python_type.__name__}", ())
    raise TypeError(f"a {type(leaf).__module__}.{type(leaf).__qualname__} cannot be saved")


@functools.cache
def _name_of(dtype: np.dtype) -> str:
    return np.dtype(dtype).name


class Taken(NamedTuple):
    """One leaf of a tree as it was at one moment.

    Attributes:
      path: its JAX key path.
      kind: its kind.
      value: an array that no other code holds; it is still on its device if it was there.
      key_impl: of typed keys whose data was taken.
    """

    path: tuple
    kind: LeafKind
    value: jax.Array | np.ndarray
    key_impl: str | None = None


def snapshot(tree: Tree) -> list[Taken]:
    """Copies of the leaves of `tree`, made on their devices, without waiting for them.

    Raises:
      TypeError: a leaf is no array and no Python scalar; the text names its path.
      ValueError: a leaf was donated.
    """
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    kinds = [_savable_kind(path, leaf) for path, leaf in found]
    copies = iter(copies_in_place([leaf for _, leaf in found if isinstance(leaf, jax.Array)]))
    taken = [
        Taken(path, kind, next(copies) if isinstance(leaf, jax.Array) else _host_copy(leaf))
        for (path, leaf), kind in zip(found, kinds, strict=True)
    ]
    return [_without_keys(leaf) for leaf in taken] if num_processes() > 1 else taken


def _without_keys(leaf: Taken) -> Taken:
    """The data in the place of typed keys. It takes a program, and a thread that saves must start none.

    That program would stand in the queues of the devices among those of the training, which wait there for
    the other processes: XLA's CPU devices then wait for ever now and then.
    """
    return leaf._replace(value=stored_form(leaf.value), key_impl=key_impl_of(leaf.value))


def prepare_snapshot(taken: list[Taken]) -> None:
    """Compiles the copies that make the next snapshot of such a tree short; call it off the main thread."""
    prepare_copies([leaf.value for leaf in taken if isinstance(leaf.value, jax.Array)])


def stored_form(value: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """The array to write for a leaf that was taken, where it lies: typed keys give their uint32 data."""
    return jax.random.key_data(value) if isinstance(value, jax.Array) and _holds_keys(value) else value


def data_dtype(kind: LeafKind) -> np.dtype:
    """The dtype that `stored_form` gives for a leaf of this kind.

    >>> data_dtype(LeafKind("Python int", ())), data_dtype(LeafKind("key<fry>", ()))
    (dtype('int64'), dtype('uint32'))
    """
    for python_type, dtype in _PYTHON_SCALARS.items():
        if kind.dtype == f"Python {python_type.__name__}":
            return np.dtype(dtype)
    if kind.dtype.startswith("key<"):
        return np.dtype(np.uint32)
    return jnp.dtype(kind.dtype)


def put_back(value: np.ndarray, like: Tree, key_impl: str | None) -> Tree:
    """A leaf with the bits of `value`: of the type and sharding of `like`, in its own buffer.

    A scalar is weakly typed where `like` is; JAX has no public way to a larger array that is.

    Args:
      value: what `stored_form` gave, on the host.
      like: the leaf whose place it takes, of the same kind, or a jax array of a wider float dtype. A
        deleted one will do.
      key_impl: the PRNG implementation of a typed key.

    Raises:
      ValueError: JAX would shorten the dtype.
    """
    if isinstance(like, jax.Array | jax.ShapeDtypeStruct):
        if _holds_keys(like):
            keys = jax.random.wrap_key_data(jnp.array(value), impl=key_impl)
            return place_like(keys, like)
        return _restored_array(value, like)
    if isinstance(like, np.ndarray):
        return np.array(value, dtype=like.dtype)
    if isinstance(like, np.generic):
        return value.astype(like.dtype)[()]
    if isinstance(like, str):
        return type(like)(value.tobytes().decode())
    return type(like)(value.item())


def put_back_parts(
    parts: Mapping[Box, np.ndarray], shape: tuple[int, ...], like: Tree, key_impl: str | None
) -> jax.Array:
    """As `put_back`, for a leaf that lies over several processes.

    Args:
      parts: those that lie on this process's devices, or the whole value.
      shape: of the whole value.
      like: as in `put_back`.
      key_impl: as in `put_back`.

    Raises:
      ValueError: JAX would shorten the dtype.
    """
    if _holds_keys(like):
        placed = place_own_parts(
            shape, over_data(like.sharding, like.ndim, len(shape)), lambda at: _part(parts, at, shape)
        )
        return jax.random.wrap_key_data(placed, impl=key_impl)
    if getattr(like, "weak_type", False) and not shape:
        return _restored_array(parts[()], like)
    dtype = like.dtype
    array = place_own_parts(
        shape, like.sharding, lambda at: _part(parts, at, shape).astype(dtype, copy=False)
    )
    _check_not_shortened(array, like)
    return array


def key_impl_of(leaf: Object) -> str | None:
    """The name of a typed key's implementation; None for any other leaf."""
    return str(jax.random.key_impl(leaf)) if isinstance(leaf, jax.Array) and _holds_keys(leaf) else None


def _restored_array(value: np.ndarray, like: Tree) -> jax.Array:
    value = value.astype(like.dtype, copy=False)
    if getattr(like, "weak_type", False) and value.ndim == 0:
        weak = jnp.asarray(value.item())  # the one public way to a weakly typed array
        if weak.dtype == like.dtype:
            return place_like(weak, like)
    array = place_like(value, like)
    _check_not_shortened(array, like)
    return array


def _part(parts: Mapping[Box, np.ndarray], at: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    box = box_of(at, shape)
    return parts[box] if box in parts else parts[whole(shape)][at]


def _check_not_shortened(array: jax.Array, like: Tree) -> None:
    if array.dtype != like.dtype:
        raise ValueError(
            f"JAX would shorten {np.dtype(like.dtype).name} to {array.dtype}. "
            "Call jax.config.update('jax_enable_x64', True) first, as the run that saved it did."
        )


def _savable_kind(path: tuple, leaf: Object) -> LeafKind:
    def refused(reason: str) -> str:
        return f"cannot save tree{jax.tree_util.keystr(path)}: {reason}"

    if isinstance(leaf, jax.Array) and leaf.is_deleted():
        raise ValueError(
            refused("the array was donated to a compiled step. Save the state that the step returned.")
        )
    if isinstance(leaf, jax.ShapeDtypeStruct):
        raise TypeError(refused("a jax.ShapeDtypeStruct has no values."))
    if isinstance(leaf, int) and not -(2**63) <= leaf < 2**63:
        raise TypeError(refused(f"the integer {leaf} needs more than 64 bits."))
    try:
        return kind_of(leaf)
    except TypeError as error:
        repair = "Leaves are jax and NumPy arrays, typed keys, and Python numbers and strings."
        raise TypeError(refused(f"{error}. {repair}")) from None


def _host_copy(leaf: Object) -> np.ndarray:
    if isinstance(leaf, np.ndarray | np.generic):
        return np.array(leaf, dtype=leaf.dtype.newbyteorder("="), order="C", copy=True)
    if isinstance(leaf, str):
        return np.frombuffer(leaf.encode(), np.uint8)
    python_type = next(known for known in _PYTHON_SCALARS if isinstance(leaf, known))
    return np.asarray(leaf, _PYTHON_SCALARS[python_type])


def _holds_keys(leaf: Object) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
