"""Which rows of a batch hold bad numbers."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fourbeat.beats.loss import Forward, is_weighted
from fourbeat.trees.rows import known_rows


def rows_with_bad_items(seen: Forward) -> jax.Array:
    """Rows whose loss is not finite and counts: bool (rows,).

    They are looked for where the mean is not finite alone. A second reader of the losses in every step would
    change how XLA sums them, which costs a bit.
    """
    weight = jnp.ones((), jnp.float32) if seen.item_weight is None else seen.item_weight

    def look(items: jax.Array, weight: jax.Array) -> jax.Array:
        bad = ~jnp.isfinite(items) & (weight != 0)
        return bad.reshape(bad.shape[0], -1).any(1)

    none = lambda items, weight: jnp.zeros(items.shape[0], bool)
    return lax.cond(jnp.isfinite(seen.loss), none, look, seen.items, weight)


def rows_with_bad_columns(batch: Any, bad_items: jax.Array) -> jax.Array:
    """Rows that count and have a NaN or Inf in a column; where none has, `bad_items`: bool (rows,).

    A bad row can spoil the losses of all others, through batch statistics, so its columns are asked first.
    """
    rows = known_rows(batch)
    if rows is None:
        return bad_items
    bad = jnp.zeros(rows, bool)
    for column in jax.tree.leaves(batch):
        if jnp.issubdtype(column.dtype, jnp.inexact) and column.ndim and column.shape[0] == rows:
            bad |= ~jnp.isfinite(column).reshape(rows, -1).all(1)
    if is_weighted(batch):
        bad &= (batch["weight"] != 0).reshape(rows, -1).any(1)
    if bad_items.shape != bad.shape:
        return bad
    return jnp.where(bad.any(), bad, bad_items)
