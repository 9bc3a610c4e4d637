"""Rows: a batch over a mesh, each device with its share of the examples."""

import copy
import dataclasses
import warnings
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fourbeat.data.batch import Batch, columns_of
from fourbeat.data.placement import place_on_every_device
from fourbeat.shard.mesh import described, num_row_shares, row_axes, rows_spec
from fourbeat.trees.example_counts import known_num_examples, listed
from fourbeat.types import Batch as AnyBatch
from fourbeat.types import Object


class WholeBatchWarning(UserWarning):
    """Nothing tells the rows of a batch, so every device computes the whole of it."""


def split_rows(batch: AnyBatch, mesh: Mesh) -> Any:
    """Inside a compiled step: the columns of a batch, gathered and mapped, each device with its rows.

    Raises:
      ValueError: the rows do not divide; the text names the neighbouring sizes.
    """
    columns = columns_of(batch)
    num_rows = _num_rows(columns, mesh)
    if num_rows is None:
        return columns
    check_divides(num_rows, mesh)
    return _constrained(columns, num_rows, mesh)


def split_padded_rows(batch: AnyBatch, mesh: Mesh) -> tuple[Any, int | None]:
    """As `split_rows`; rows that do not divide are filled up with the last one, of weight 0.

    Returns:
      The columns, and the number of rows before padding; None where nothing was padded.
    """
    columns = columns_of(batch)
    num_rows = _num_rows(columns, mesh)
    if num_rows is None:
        return columns, None
    missing = -num_rows % num_row_shares(mesh)
    if not missing or not isinstance(columns, dict):
        return _constrained(columns, num_rows, mesh) if not missing else columns, None
    longer = lambda leaf: jnp.concatenate([leaf, jnp.repeat(leaf[-1:], missing, axis=0)])
    weight = columns.get("weight", jnp.ones(num_rows, jnp.float32))
    real = jnp.arange(num_rows + missing) < num_rows
    padded = jax.tree.map(lambda leaf: longer(jnp.asarray(leaf)) if _has_rows(leaf, num_rows) else leaf, columns)
    weight = longer(jnp.broadcast_to(weight, (num_rows,)) if jnp.ndim(weight) == 0 else jnp.asarray(weight))
    padded["weight"] = jnp.where(real.reshape(real.shape + (1,) * (weight.ndim - 1)), weight, 0)
    return _constrained(padded, num_rows + missing, mesh), num_rows


def on_the_mesh(batch: AnyBatch, mesh: Mesh) -> Any:
    """The batch with its resident columns copied to every device, once; all else as it is.

    Args:
      batch: a `Batch`, a `Block` of them, or any other pytree of arrays.
      mesh: with `Auto` axes.
    """
    inner = getattr(batch, "batch", batch)  # of a block
    if not isinstance(inner, Batch) or inner.resident is None or mesh.size == 1:
        return batch
    inner = copy.copy(inner)
    inner.resident = {name: _on_every_device(column, mesh) for name, column in inner.resident.items()}
    return inner if not hasattr(batch, "batch") else dataclasses.replace(batch, batch=inner)


def batch_shardings(batch: AnyBatch, mesh: Mesh, *, is_stack: bool = False) -> Any:
    """How the arrays of a batch lie on the mesh when a compiled call takes them: a tree like the batch.

    Columns are split by rows where these divide; resident ones, and the numbers that say which rows to gather,
    are on every device.

    Args:
      batch: a `Batch`, or any other pytree of arrays.
      mesh: with `Auto` axes.
      is_stack: whether the columns have a leading axis of steps.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    if not isinstance(batch, Batch):
        one = jax.tree.map(lambda leaf: leaf[0], batch) if is_stack else batch
        return _of_columns(batch, known_num_examples(one), mesh, int(is_stack))
    shardings = copy.copy(jax.tree.map(lambda _: whole, batch))
    if batch.columns is not None:
        shardings.columns = _of_columns(batch.columns, batch.num_examples, mesh, int(batch.stacked))
    return shardings


def check_divides(num_rows: int, mesh: Mesh) -> None:
    """Raises if the rows of a batch cannot be split evenly."""
    shares = num_row_shares(mesh)
    if num_rows % shares == 0:
        return
    below, above = num_rows // shares * shares, -(-num_rows // shares) * shares
    near = f"{below} or {above}" if below else str(above)
    raise ValueError(
        f"the batch has {num_rows} examples, which do not divide over the {shares} shares of the mesh "
        f"({described(mesh)}; rows are split over {' and '.join(row_axes(mesh))}). Use a batch size of {near}, and "
        "remainder='drop' or 'pad' for a short last batch. Rows that fill it up would count in batch statistics."
    )


def _num_rows(columns: AnyBatch, mesh: Mesh) -> int | None:
    """The number of rows to split; None where there is nothing to split, which is said."""
    if num_row_shares(mesh) == 1 or not jax.tree.leaves(columns):
        return None
    num_rows = known_num_examples(columns)
    if num_rows is None:
        warnings.warn(
            f"nothing tells the rows of the batch ({listed(columns)}), so it is not split, and every device of "
            f"the mesh ({described(mesh)}) computes the whole of it. Give all columns one leading axis, or add a "
            "column 'weight' of one value an example.",
            WholeBatchWarning,
            stacklevel=2,
        )
    return num_rows


def _constrained(columns: AnyBatch, num_rows: int, mesh: Mesh) -> Any:
    def constrained(leaf: Object) -> Any:
        if not _has_rows(leaf, num_rows):
            return leaf
        sharding = NamedSharding(mesh, rows_spec(mesh, np.shape(leaf)))
        return jax.lax.with_sharding_constraint(jnp.asarray(leaf), sharding)

    return jax.tree.map(constrained, columns)


def _of_columns(columns: AnyBatch, num_rows: int | None, mesh: Mesh, axis: int) -> Any:
    def sharding_of(leaf: Object) -> NamedSharding:
        shape = np.shape(leaf)
        if num_rows is None or num_rows % num_row_shares(mesh) or shape[axis : axis + 1] != (num_rows,):
            return NamedSharding(mesh, PartitionSpec())
        return NamedSharding(mesh, rows_spec(mesh, shape, num_leading=axis))

    return jax.tree.map(sharding_of, columns)


def _has_rows(leaf: Object, num_rows: int) -> bool:
    return np.ndim(leaf) > 0 and np.shape(leaf)[0] == num_rows


_copies: dict[tuple[int, Mesh], jax.Array] = {}  # of resident columns, as long as those live


def _on_every_device(column: jax.Array, mesh: Mesh) -> jax.Array:
    if isinstance(column.sharding, NamedSharding):
        return column
    key = (id(column), mesh)
    if key not in _copies:
        _copies[key] = place_on_every_device(column, mesh)
        weakref.finalize(column, _copies.pop, key, None)
    return _copies[key]
