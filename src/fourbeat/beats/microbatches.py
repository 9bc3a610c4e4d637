"""Microbatches: one batch cut into parts of equal size, and what each counts."""

from typing import Any

import jax
import jax.numpy as jnp

from fourbeat.beats.loss import is_weighted
from fourbeat.trees.paths import leaves_with_paths
from fourbeat.trees.rows import common_rows, empty, unlike


def cut(batch: Any, num_microbatches: int) -> Any:
    """The batch with every column cut into consecutive rows: shape (n, rows / n, ...).

    Scalars are given to every microbatch.

    Args:
      batch: a pytree of arrays of one leading dimension.
      num_microbatches: at least 1.

    Raises:
      ValueError: the rows do not divide, or columns differ in their number. The text names the column.

    >>> cut({"x": jnp.arange(4)}, 2)["x"].tolist()
    [[0, 1], [2, 3]]
    """
    columns = [name for name, leaf in leaves_with_paths(batch, "batch") if jnp.ndim(leaf)]
    if not columns:
        raise ValueError(
            f"cannot split batch into {num_microbatches} microbatches: it holds no array with rows. Give "
            "it columns of one leading dimension, or use accumulate=1."
        )
    num_rows = common_rows(batch)
    if num_rows is None:
        raise ValueError(f"cannot split batch into {num_microbatches} microbatches: {unlike(batch)}")
    if num_rows == 0:
        raise empty(batch)
    if num_rows % num_microbatches:
        divisors = [str(n) for n in range(2, num_rows + 1) if num_rows % n == 0]
        listed = ", ".join(divisors[:8]) + (", ..." if len(divisors) > 8 else "")
        raise ValueError(
            f"cannot split batch into {num_microbatches} microbatches: {columns[0]} has {num_rows} rows and "
            f"{num_rows} is not divisible by {num_microbatches}.\n"
            f"Use accumulate={listed or '1'} or a batch size that is a multiple of {num_microbatches}."
        )

    def rows(leaf: Any) -> jax.Array:
        leaf = jnp.asarray(leaf)
        if leaf.ndim == 0:
            return jnp.broadcast_to(leaf, (num_microbatches,))
        return leaf.reshape(num_microbatches, -1, *leaf.shape[1:])

    return jax.tree.map(rows, batch)


def shares(microbatches: Any, num_microbatches: int) -> jax.Array:
    """What share of the whole batch's weight each microbatch holds, float32 (n,).

    The mean of the batch is the sum of the microbatches' means times their shares. Without a weight
    column the shares are equal; where nothing has weight they are all 0.

    >>> shares({"x": jnp.ones((2, 2)), "weight": jnp.array([[1.0, 1.0], [1.0, 0.0]])}, 2).round(3).tolist()
    [0.667..., 0.333...]
    """
    if not is_weighted(microbatches):
        return jnp.full((num_microbatches,), 1 / num_microbatches, jnp.float32)
    weight = microbatches["weight"].astype(jnp.float32).reshape(num_microbatches, -1).sum(1)
    total = weight.sum()
    return weight / jnp.where(total == 0, 1, total)
