"""How many rows a batch has, one for each example. Code that counts, cuts or weighs rows asks here."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import Batch

_MOST_LISTED = 8
_OR_WEIGHT = "Or add a column 'weight' of one value an example: its leading axis then counts them."


def common_rows(batch: Batch) -> int | None:
    """The length of the leading axis that all arrays of a batch share; None where they share none.

    A scalar belongs to the whole batch and takes no part. A batch of no column at all, that of a problem
    without data, counts as one row.

    >>> common_rows({"beta": 0.5, "x": np.ones((8, 3)), "y": np.ones(8)}), common_rows({})
    (8, 1)
    >>> common_rows({"x": np.ones((8, 3)), "grid": np.ones((5, 2))}) is common_rows({"beta": 0.5}) is None
    True
    """
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(batch)]
    lengths = {shape[0] for shape in shapes if shape}
    if len(lengths) == 1:
        return lengths.pop()
    return None if shapes else 1


def known_rows(batch: Batch) -> int | None:
    """Rows of a batch; None where neither a leading axis common to its arrays nor its weight column tells.

    >>> known_rows({"nodes": np.ones((9, 3)), "edges": np.ones((20, 2)), "weight": np.ones(4)})
    4
    """
    rows = common_rows(batch)
    if rows is None and isinstance(batch, Mapping):
        shape = getattr(batch.get("weight"), "shape", None)
        return shape[0] if shape else None
    return rows


def num_rows(batch: Batch, otherwise: str = _OR_WEIGHT) -> int:
    """Rows of a batch, padding counted in.

    Args:
      batch: a pytree of arrays, such as a dict of columns.
      otherwise: what the error offers in place of a common leading axis.

    Raises:
      ValueError: neither its arrays' common leading axis nor its weight column tells. The text names the
        columns.

    >>> num_rows({"image": np.ones((4, 28, 28)), "label": np.ones(4)})
    4
    """
    rows = known_rows(batch)
    if rows is None:
        also = f" {otherwise}" if has_axes(batch) else ""
        raise ValueError(f"cannot count the rows of batch: {unlike(batch)}{also}")
    return rows


def is_batch(item: Any) -> bool:
    """Whether an item of a data set can be a batch: its arrays share a leading axis, and none is a scalar.

    Ask it of items of a data set alone: a batch with one scalar for all of its examples looks like a single
    example with a scalar label.

    >>> is_batch({"image": np.ones((28, 28)), "label": 7}), is_batch({"x": np.ones((8, 3)), "y": np.ones(8)})
    (False, True)
    """
    return common_rows(item) is not None and all(map(np.shape, jax.tree.leaves(item)))


def unlike(batch: Batch) -> str:
    """Why the columns of a batch have no common leading axis, and what to do."""
    if not has_axes(batch):
        return (
            f"no column has a leading axis: {listed(batch)}. A column is an array of one row an example; "
            "give a single row one with x[None]."
        )
    return (
        f"its columns have no common leading axis: {listed(batch)}. Give every array the same leading axis, "
        "one row an example, and keep what belongs to all examples out of the batch (or make it a scalar)."
    )


def empty(batch: Batch) -> ValueError:
    """The error for a batch without rows."""
    return ValueError(
        f"the batch is empty: {listed(batch)}. The mean over no example is no number. Skip such a batch, or "
        "leave it out where the batches are made."
    )


def has_axes(batch: Batch) -> bool:
    """Whether a column of a batch has an axis: else it is a single row."""
    return any(map(np.shape, jax.tree.leaves(batch)))


def listed(batch: Batch) -> str:
    """The shapes of the columns, each beside its place."""
    columns = leaves_with_paths(batch, "batch")
    shown = ", ".join(f"{place} {np.shape(leaf)}" for place, leaf in columns[:_MOST_LISTED])
    more = f" and {len(columns) - _MOST_LISTED} more" if len(columns) > _MOST_LISTED else ""
    return shown + more
