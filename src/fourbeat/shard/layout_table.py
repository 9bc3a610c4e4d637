"""A table of where the parameters lie."""

import math

import jax
from jax.sharding import NamedSharding

from fourbeat.shard.creating import in_units
from fourbeat.shard.meshes import written
from fourbeat.shard.rules import joined
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
    leaves, _ = jax.tree_util.tree_flatten_with_path(getattr(state, "params", state))
    rows, total = [("parameter", "shape", "spec", "bytes a device")], 0
    for path, leaf in leaves:
        num_bytes = math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        total += num_bytes
        rows.append(
            (joined(plain_path(path)), str(tuple(leaf.shape)), _spec(leaf.sharding), in_units(num_bytes))
        )
    rows.append(("in all", "", "", in_units(total)))
    if hasattr(state, "opt_state"):
        rest = [leaf for leaf in jax.tree.leaves(state) if hasattr(leaf, "sharding")]
        whole = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in rest)
        rows.append(("the whole state", "", "", in_units(whole)))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if i == 3 else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _spec(sharding: jax.sharding.Sharding) -> str:
    return written(sharding.spec) if isinstance(sharding, NamedSharding) else "on one device"
