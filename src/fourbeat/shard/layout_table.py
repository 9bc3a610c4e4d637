"""A table of where the parameters lie."""

import jax
from jax.sharding import NamedSharding

from fourbeat.shard.creating import bytes_on_a_device, in_units
from fourbeat.shard.meshes import written
from fourbeat.trees.globs import joined
from fourbeat.trees.paths import plain_path
from fourbeat.types import State


def table(state: State) -> str:
    """A line for each parameter: its shape, how it is split, its bytes on a device; and a line for the sum.

    Args:
      state: a `TrainState`, or any pytree of arrays; `jax.ShapeDtypeStruct` with a sharding will do.

    >>> import fourbeat as fb, numpy as np
    >>> print(table(fb.shard.place({"w": np.ones((2, 2), np.float32)}, fb.mesh(data=-1))))
    parameter  shape   spec  bytes a device
    w          (2, 2)  P()             16 B
    in all                             16 B
    """
    named, _ = jax.tree_util.tree_flatten_with_path(getattr(state, "params", state))
    rows = [("parameter", "shape", "spec", "bytes a device")]
    for path, leaf in named:
        place = joined(plain_path(path)), str(tuple(leaf.shape)), _spec(leaf.sharding)
        rows.append((*place, _bytes_of([leaf])))
    rows.append(("in all", "", "", _bytes_of([leaf for _, leaf in named])))
    if hasattr(state, "opt_state"):
        placed = [leaf for leaf in jax.tree.leaves(state) if hasattr(leaf, "sharding")]
        rows.append(("the whole state", "", "", _bytes_of(placed)))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if i == 3 else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _bytes_of(leaves: list) -> str:
    return in_units(bytes_on_a_device(leaves, [leaf.sharding for leaf in leaves]))


def _spec(sharding: jax.sharding.Sharding) -> str:
    return written(sharding.spec) if isinstance(sharding, NamedSharding) else "on one device"
