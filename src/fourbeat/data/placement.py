"""Placement: the one file that puts arrays onto a device.

An array that is placed here without a place of its own is uncommitted: it lies on the default device, and
a program compiled for other uncommitted arrays serves it too.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fourbeat.types import Object, Tree


def place(tree: Tree) -> Tree:
    """The tree with its host leaves on the default device; its `jax.Array`s stay where they are.

    A device may share the memory of a host array instead of copying it. So an array that was placed must
    not be written: hand over arrays of your own.

    Args:
      tree: a pytree of NumPy arrays and `jax.Array`s, such as a batch.

    >>> placed = place({"x": np.ones(2, np.float32)})
    >>> isinstance(placed["x"], jax.Array), placed["x"].committed
    (True, False)
    """
    leaves, structure = jax.tree.flatten(tree)
    placed = iter(jax.device_put([leaf for leaf in leaves if not isinstance(leaf, jax.Array)]))
    return structure.unflatten([leaf if isinstance(leaf, jax.Array) else next(placed) for leaf in leaves])


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
    return jax.device_put(tree, leaf.sharding)


def copies_in_place(arrays: list[jax.Array]) -> list[jax.Array]:
    """A copy of each array where it lies, made without a program.

    A compiled copy would wait for its place behind the steps under way.
    """
    return jax.device_put(arrays, [array.sharding for array in arrays], may_alias=False)


def placement_of(leaf: jax.Array | jax.ShapeDtypeStruct) -> Any:
    """The sharding of a leaf that was put somewhere on purpose; None of one that was not."""
    return leaf.sharding if isinstance(leaf, jax.ShapeDtypeStruct) or leaf.committed else None
