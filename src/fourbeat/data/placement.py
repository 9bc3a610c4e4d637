"""Placement: the one file that puts arrays onto a device.

An array that is placed here without a place of its own is uncommitted: it lies on the default device, and
a program compiled for other uncommitted arrays serves it too. It serves NumPy arrays as well: batches of the
host are not placed, for a compiled call takes them for a tenth of what `jax.device_put` costs.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from fourbeat.distributed import num_processes
from fourbeat.types import Batch, Object, Tree


def place_resident(columns: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Copies of whole columns on the default device, good for every later program.

    The first use may lie inside a trace, which must not keep its tracers in them.
    """
    own = {name: column.copy() for name, column in columns.items()}
    with jax.ensure_compile_time_eval():
        return jax.device_put(own)


def place_like(value: Object, like: Tree) -> jax.Array:
    """The value in a buffer of its own, where `like` lies.

    Args:
      value: a NumPy array or a `jax.Array`.
      like: a `jax.Array` or a `jax.ShapeDtypeStruct`. A deleted one will do.
    """
    return jax.device_put(value, placement_of(like), may_alias=False)


def place_beside(tree: Tree, leaf: jax.Array) -> Tree:
    """The tree on the devices of `leaf`: with its sharding, so that one program takes both."""
    return _put(tree, jax.tree.map(lambda _: leaf.sharding, tree))


def place_rows(batch: Batch, shardings: Tree) -> Any:
    """The batch with each array as the sharding at its place says."""
    return _put(batch, shardings)


def place_parts(
    like: np.ndarray,
    shape: tuple[int, ...],
    sharding: Sharding,
    part: Callable[[tuple[slice, ...]], np.ndarray],
) -> jax.Array:
    """An array of which each process gives the parts of its own devices.

    Args:
      like: an array of the dtype.
      shape: of the whole array.
      sharding: of the whole array.
      part: gives the part at some indices of the whole array.
    """
    callback: Any = part
    return jax.make_array_from_callback(shape, sharding, callback, dtype=like.dtype)


def place_over_mesh_like(tree: Tree, like: Tree) -> Any:
    """The tree with the shardings of `like`, where that lies on a mesh; else as it is, uncommitted."""
    shardings = [getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(like)]
    if not any(isinstance(sharding, NamedSharding) for sharding in shardings):
        return tree
    return _put(tree, jax.tree.structure(like).unflatten(shardings))


def place_as(tree: Tree, shardings: Tree) -> Any:
    """The tree in buffers of its own, each leaf with the sharding at its place."""
    return jax.device_put(tree, shardings, may_alias=False)


def place_on_every_device(array: jax.Array | np.ndarray, mesh: Mesh) -> jax.Array:
    """The whole array on each device of a mesh."""
    return _put(array, NamedSharding(mesh, PartitionSpec()))


def _put(tree: Tree, shardings: Tree) -> Any:
    """`jax.device_put`; where the devices belong to several processes, each serves its own.

    There `jax.device_put` compares the values of all processes, which takes a collective for each array.
    """
    if num_processes() == 1:
        return jax.device_put(tree, shardings)
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(map(_put_one, leaves, structure.flatten_up_to(shardings)))


def _put_one(leaf: Object, sharding: Sharding | None) -> Any:
    is_local = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
    if sharding is None or sharding.is_fully_addressable or not is_local:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(getattr(leaf, "dtype", np.int32), jax.dtypes.extended):  # the keys of jax.random
        return jax.device_put(leaf, sharding)
    host = np.asarray(leaf)
    host = host.astype(jax.dtypes.canonicalize_dtype(host.dtype), copy=False)
    return place_parts(host, host.shape, sharding, lambda at: host[at])


def copies_in_place(arrays: list[jax.Array]) -> list[jax.Array]:
    """A copy of each array where it lies.

    Without a program that takes 25 us of Python for each. So where they are many, one program copies them
    all, once `prepare_copies` has compiled it; nothing here waits for that.
    """
    if num_processes() > 1 and not all(array.is_fully_addressable for array in arrays):
        return _copies_of_own_parts(arrays)
    if _as_one_program(arrays) and len(arrays) in _prepared:
        return _copies(arrays)
    return jax.device_put(arrays, may_alias=False)


def _copies_of_own_parts(arrays: list[jax.Array]) -> list[jax.Array]:
    """Each process copies what lies on its own devices, without a program that all would have to run."""
    shards = [array.addressable_shards for array in arrays]
    parts = [[shard.data for shard in own] for own in shards]
    devices = [[shard.device for shard in own] for own in shards]  # typed keys do not stay by themselves
    return [
        jax.make_array_from_single_device_arrays(array.shape, array.sharding, copies, dtype=array.dtype)
        for array, copies in zip(arrays, jax.device_put(parts, devices, may_alias=False), strict=True)
    ]


def place_own_parts(
    shape: tuple[int, ...], sharding: Sharding, part: Callable[[tuple[slice, ...]], np.ndarray]
) -> jax.Array:
    """An array in buffers of its own over the devices of all processes.

    Args:
      shape: of the whole array.
      sharding: where its parts lie.
      part: gives the part at some indices of the whole array; asked for those of this process's devices.
    """
    own = sharding.addressable_devices_indices_map(shape)
    parts = [jax.device_put(part(at), device, may_alias=False) for device, at in own.items()]  # pyright: ignore[reportArgumentType]
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def prepare_copies(arrays: list[jax.Array]) -> None:
    """Compiles the program that `copies_in_place` uses for arrays like these, where they are many."""
    if num_processes() == 1 and _as_one_program(arrays) and len(arrays) not in _prepared:
        _copies.lower(arrays).compile()
        _prepared.add(len(arrays))


_MANY = 200
_prepared: set[int] = set()  # how many arrays each compiled program copies


def _as_one_program(arrays: list[jax.Array]) -> bool:
    return len(arrays) >= _MANY and len({frozenset(array.sharding.device_set) for array in arrays}) == 1


@jax.jit
def _copies(arrays: list[jax.Array]) -> list[jax.Array]:
    return [jnp.copy(array) for array in arrays]


def placement_of(leaf: jax.Array | jax.ShapeDtypeStruct) -> Any:
    """The sharding of a leaf that was put somewhere on purpose; None of one that was not."""
    return leaf.sharding if isinstance(leaf, jax.ShapeDtypeStruct) or leaf.committed else None
