"""Plain batches: dicts of arrays that belong to the user, copied before they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fourbeat.data.batch import Batch
from fourbeat.explicit.rows import num_rows


def own_batch(batch: Any) -> tuple[Any, int]:
    """A copy of a batch that the caller may do with as it likes, and how many rows it has.

    Users fill one buffer again and again, and `jax.device_put` of an aligned NumPy array shares its
    memory, so everything that is not yet a `jax.Array` is copied, and still on the host.

    Args:
      batch: a mapping of columns, each an array or a pytree of arrays.

    Returns:
      The same pytree of NumPy arrays and the user's own `jax.Array`s; and its number of rows.

    Raises:
      TypeError: it is not a mapping, or a column is not an array that a device can hold.
      ValueError: its columns have no common leading axis.
    """
    if not isinstance(batch, Mapping):
        raise TypeError(
            f"a batch is a dict of arrays, and this one is a {type(batch).__name__}. Give each "
            "column "
            'a name, such as {"image": images, "label": labels}.'
        )
    # Reading a column of a Batch would gather it, and its own are arrays.
    for name, column in () if isinstance(batch, Batch) else batch.items():
        if isinstance(column, list):
            raise TypeError(
                f"batch[{name!r}] is a list of {len(column)}, which is no array. Use "
                f"np.asarray(batch[{name!r}])."
            )
    if type(batch) is not dict and jax.tree_util.all_leaves([batch]):
        batch = dict(batch)  # a mapping that JAX does not know, such as a UserDict
    rows = batch.num_rows if isinstance(batch, Batch) else num_rows(batch)
    leaves, structure = jax.tree.flatten(batch)
    owned = [leaf if isinstance(leaf, jax.Array) else np.array(leaf) for leaf in leaves]
    if any(leaf.dtype.kind in "OSUMm" for leaf in owned if isinstance(leaf, np.ndarray)):
        raise _no_numbers(structure.unflatten(owned))
    return structure.unflatten(owned), rows


def put_on_device(batch: Any) -> Any:
    """The batch with its NumPy leaves on the default device; its `jax.Array`s stay as they are."""
    leaves, structure = jax.tree.flatten(batch)
    placed = iter(jax.device_put([leaf for leaf in leaves if not isinstance(leaf, jax.Array)]))
    return structure.unflatten([leaf if isinstance(leaf, jax.Array) else next(placed) for leaf in leaves])


def _no_numbers(batch: Any) -> TypeError:
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        if leaf.dtype.kind in "OSUMm":
            return TypeError(
                f"batch{jax.tree_util.keystr(path)} has dtype {leaf.dtype}, which no device can "
                "hold. Leave the column out of the batch, or turn it into numbers."
            )
    raise AssertionError("called without such a column")
