"""A short batch brought to the shape of the others: examples of weight 0 fill it."""

from typing import Any

import jax
import numpy as np

from fourbeat.data.batch import Batch as DataBatch
from fourbeat.data.batch import columns_of
from fourbeat.data.own_batches import own_batch
from fourbeat.trees.example_counts import listed, num_examples
from fourbeat.types import Batch


def filled(batch: Batch, batch_size: int) -> dict[str, Any]:
    """The batch with `batch_size` examples and a weight column, in which 0 marks those that fill it.

    They repeat the last real one, so whatever is computed of them is finite where the rest is.

    Raises:
      TypeError: it is no dict of arrays.
      ValueError: it has more examples, or none, or does not tell how many; or a value does not fit a device.

    >>> filled({"x": np.array([[1], [2]])}, 3)["x"].tolist(), filled({"x": np.ones(2)}, 3)["weight"].tolist()
    ([[1], [2], [2]], [1.0, 1.0, 0.0])
    """
    own = own_batch(batch)
    texts = (own.texts or {}) if isinstance(own, DataBatch) else {}
    columns = jax.tree.map(np.asarray, dict(columns_of(own)))
    given = num_examples(columns)
    if given > batch_size or given == 0:
        raise ValueError(
            f"cannot bring a batch of {given} examples to {batch_size}: {listed(columns)}. Padding makes "
            "short batches longer; give padded(..., batch_size) the length of the longest one, and leave "
            "empty ones out."
        )
    missing = batch_size - given
    real = np.arange(batch_size) < given
    weight = columns.pop("weight", None)
    columns = jax.tree.map(lambda column: _longer(column, missing), columns)
    texts = {name: _longer(text, missing) for name, text in texts.items()}
    return {**columns, **texts, "weight": _weight(weight, missing, real)}


def _longer(column: np.ndarray, missing: int) -> np.ndarray:
    if column.ndim == 0 or not missing:  # a scalar belongs to the whole batch
        return column
    return np.concatenate([column, np.repeat(column[-1:], missing, axis=0)])


def _weight(weight: np.ndarray | None, missing: int, real: np.ndarray) -> np.ndarray:
    if weight is None:
        return real.astype(np.float32)
    if not np.issubdtype(weight.dtype, np.inexact):
        weight = weight.astype(np.float32)
    weight = np.broadcast_to(weight, real.shape) if weight.ndim == 0 else _longer(weight, missing)
    return np.where(real.reshape(real.shape + (1,) * (weight.ndim - 1)), weight, np.zeros((), weight.dtype))
