"""Where the arrays of a batch lie before a compiled call takes them."""

import copy
import dataclasses
import weakref
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fourbeat.data.batch import Batch
from fourbeat.data.placement import place_on_every_device, place_rows
from fourbeat.shard.meshes import num_row_shares, rows_spec
from fourbeat.shard.rows import num_rows_to_split
from fourbeat.types import Batch as AnyBatch
from fourbeat.types import Object


def placed(batch: AnyBatch, mesh: Mesh | None) -> Any:
    """The batch on the mesh, each device with its own rows where these divide; as it is without a mesh."""
    if mesh is None:
        return batch
    batch = on_the_mesh(batch, mesh)
    return place_rows(batch, batch_shardings(batch, mesh))


def on_the_mesh(batch: AnyBatch, mesh: Mesh) -> Any:
    """The batch with its resident columns copied to every device, once; all else as it is.

    Args:
      batch: a `Batch`, a `Block` of them, or any other pytree of arrays.
      mesh: with `Auto` axes.
    """
    inner = getattr(batch, "batch", batch)  # of a block
    if not isinstance(inner, Batch) or inner.resident is None:
        return batch
    resident = {name: _on_every_device(column, mesh) for name, column in inner.resident.items()}
    inner = copy.copy(inner)
    inner.resident = resident
    return inner if not hasattr(batch, "batch") else dataclasses.replace(batch, batch=inner)


def batch_shardings(batch: AnyBatch, mesh: Mesh, *, is_stack: bool = False) -> Any:
    """How the arrays of a batch lie on the mesh when a compiled call takes them: a tree like the batch.

    Columns are split by rows where these divide; resident ones, and the numbers that say which rows to
    gather, are on every device.

    Args:
      batch: a `Batch`, or any other pytree of arrays.
      mesh: with `Auto` axes.
      is_stack: whether the columns have a leading axis of steps.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    if not isinstance(batch, Batch):
        one = jax.tree.map(lambda leaf: leaf[0], batch) if is_stack else batch
        return _of_columns(batch, num_rows_to_split(one, mesh), mesh, int(is_stack))
    shardings = copy.copy(jax.tree.map(lambda _: whole, batch))
    if batch.columns is not None:
        shardings.columns = _of_columns(batch.columns, batch.num_examples, mesh, int(batch.stacked))
    return shardings


def _of_columns(columns: AnyBatch, num_rows: int | None, mesh: Mesh, axis: int) -> Any:
    def sharding_of(leaf: Object) -> NamedSharding:
        shape = np.shape(leaf)
        if num_rows is None or num_rows % num_row_shares(mesh) or shape[axis : axis + 1] != (num_rows,):
            return NamedSharding(mesh, PartitionSpec())
        return NamedSharding(mesh, rows_spec(mesh, shape, num_leading=axis))

    return jax.tree.map(sharding_of, columns)


_copies: dict[tuple[int, Mesh], jax.Array] = {}  # of resident columns, as long as those live


def _on_every_device(column: jax.Array, mesh: Mesh) -> jax.Array:
    if isinstance(column.sharding, NamedSharding):
        return column
    key = (id(column), mesh)
    if key not in _copies:
        _copies[key] = place_on_every_device(column, mesh)
        weakref.finalize(column, _copies.pop, key, None)
    return _copies[key]
