"""Which rows of a batch hold bad numbers."""

from typing import Any

import jax
import jax.numpy as jnp

from fourbeat.beats.loss import Forward
from fourbeat.explicit.rows import known_rows


def rows_with_bad_items(seen: Forward) -> jax.Array:
    """Rows whose loss is not finite and counts: bool (rows,)."""
    bad = ~jnp.isfinite(seen.items)
    if seen.item_weight is not None:
        bad &= seen.item_weight != 0
    return bad.reshape(bad.shape[0], -1).any(1)


def rows_with_bad_columns(batch: Any, bad_items: jax.Array) -> jax.Array:
    """Rows that hold a NaN or Inf in a column; where there is none, those of `bad_items`: bool (rows,).

    A bad row can spoil the losses of all others, through batch statistics, so its columns are asked first.
    """
    rows = known_rows(batch)
    if rows is None:
        return bad_items
    bad = jnp.zeros(rows, bool)
    for column in jax.tree.leaves(batch):
        if jnp.issubdtype(column.dtype, jnp.inexact) and column.ndim and column.shape[0] == rows:
            bad |= ~jnp.isfinite(column).reshape(rows, -1).all(1)
    if bad_items.shape != bad.shape:
        return bad
    return jnp.where(bad.any(), bad, bad_items)
