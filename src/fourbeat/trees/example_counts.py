"""How many examples a batch has. Code that counts, cuts or weighs examples asks here."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.tree_util import tree_leaves

from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import Batch, Object

_MOST_LISTED = 8
_OR_WEIGHT = "Or add a column 'weight' of one value an example: its leading axis then counts them."


def common_num_examples(batch: Batch) -> int | None:
    """The length of the leading axis that all arrays of a batch share; None where they share none.

    A scalar belongs to the whole batch and takes no part. A batch without any column, as in a problem
    without data, counts as one example.

    >>> common_num_examples({"beta": 0.5, "x": np.ones((8, 3)), "y": np.ones(8)}), common_num_examples({})
    (8, 1)
    >>> unlike, scalar = {"x": np.ones((8, 3)), "grid": np.ones((5, 2))}, {"beta": 0.5}
    >>> common_num_examples(unlike), common_num_examples(scalar)
    (None, None)
    """
    # a loop asks this for each batch, and np.shape is slow
    shapes = [leaf.shape if type(leaf) is np.ndarray else np.shape(leaf) for leaf in tree_leaves(batch)]
    lengths = {shape[0] for shape in shapes if shape}
    if len(lengths) == 1:
        return lengths.pop()
    return None if shapes else 1


def known_num_examples(batch: Batch) -> int | None:
    """The number of examples in a batch; None if neither a common leading axis nor a weight column tells.

    >>> known_num_examples({"nodes": np.ones((9, 3)), "edges": np.ones((20, 2)), "weight": np.ones(4)})
    4
    """
    num = common_num_examples(batch)
    if num is None and isinstance(batch, Mapping):
        shape = getattr(batch.get("weight"), "shape", None)
        return shape[0] if shape else None
    return num


def num_examples(batch: Batch, otherwise: str = _OR_WEIGHT) -> int:
    """The number of examples in a batch, including padding.

    Args:
      batch: a pytree of arrays, such as a dict of columns.
      otherwise: what the error suggests in place of a common leading axis.

    Raises:
      ValueError: neither a common leading axis of its arrays nor its weight column tells the number. The
        text names the columns.

    >>> num_examples({"image": np.ones((4, 28, 28)), "label": np.ones(4)})
    4
    """
    num = known_num_examples(batch)
    if num is None:
        also = f" {otherwise}" if has_axes(batch) else ""
        raise ValueError(f"cannot count the examples of batch: {unlike(batch)}{also}")
    return num


def is_batch(given: Object) -> bool:
    """Whether a value from a data set can be a batch: its arrays share a leading axis, and none is a scalar.

    Use it only for a value from a data set: a batch with one scalar for all of its examples looks like a
    single example with a scalar label.

    >>> is_batch({"image": np.ones((28, 28)), "label": 7}), is_batch({"x": np.ones((8, 3)), "y": np.ones(8)})
    (False, True)
    """
    return common_num_examples(given) is not None and all(map(np.shape, jax.tree.leaves(given)))


def is_example(given: Object) -> bool:
    """Whether a value from a data set is a single example: a dict whose arrays share no leading axis.

    A column that is a list does not count here: code that takes the batch refuses such a column.

    >>> is_example({"image": np.ones((28, 28)), "label": 7})
    True
    >>> is_example({"image": np.ones((2, 28, 28)), "name": ["a", "b"]})
    False
    """
    if not isinstance(given, Mapping):
        return False
    arrays = {name: column for name, column in given.items() if not isinstance(column, list)}
    return bool(arrays) and not is_batch(arrays)


def unlike(batch: Batch) -> str:
    """Why the columns of a batch have no common leading axis, and what to do."""
    if not has_axes(batch):
        return (
            f"no column has a leading axis: {listed(batch)}. A column has one entry an example along "
            "its leading axis; a single example gets one with x[None]."
        )
    return (
        f"its columns have no common leading axis: {listed(batch)}. Give every array the same leading axis, "
        "one entry an example, and keep what belongs to all examples out of the batch (or make it a scalar)."
    )


def empty(batch: Batch) -> ValueError:
    """The error for a batch without examples."""
    return ValueError(
        f"the batch is empty: {listed(batch)}. The mean over no example is no number. Skip such a batch, or "
        "leave it out where the batches are made."
    )


def has_axes(batch: Batch) -> bool:
    """Whether a column of a batch has an axis: else it is a single example."""
    return any(map(np.shape, jax.tree.leaves(batch)))


def listed(batch: Batch) -> str:
    """The shapes of the columns, each beside its place."""
    columns = leaves_with_paths(batch, "batch")
    shown = ", ".join(f"{place} {np.shape(leaf)}" for place, leaf in columns[:_MOST_LISTED])
    more = f" and {len(columns) - _MOST_LISTED} more" if len(columns) > _MOST_LISTED else ""
    return shown + more
