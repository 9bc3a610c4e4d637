"""Plain batches in memory of their own: what the user can write is copied, in types that JAX keeps."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from fourbeat.data.batch import Batch
from fourbeat.data.host_arrays import KEPT, host_array
from fourbeat.data.own_memory import make_own
from fourbeat.data.texts import texts_apart
from fourbeat.trees.articles import a_type
from fourbeat.types import Batch as AnyBatch
from fourbeat.types import Object


def checked_batch(batch: AnyBatch) -> AnyBatch:
    """A batch whose leaves a device can hold, still on the host; the same object if nothing changes.

    Args:
      batch: a mapping of columns, each an array or a pytree of arrays.

    Returns:
      The same pytree of NumPy arrays, in types that JAX keeps, and the user's own `jax.Array`s. It may share
      the memory of the batch. A dict that has columns of strings becomes a `Batch` with these beside it, in
      its `texts`.

    Raises:
      TypeError: it is not a mapping, or a column is not an array that a device can hold.
      ValueError: a value does not fit the type in which a device keeps it.
    """
    return batch if _is_simple(batch) else _checked(batch)


def own_batch(batch: AnyBatch) -> AnyBatch:
    """A checked batch that is read-only, and that no other code can write.

    Users fill one buffer again and again, and a device may share the memory of a NumPy array even while it
    computes. So everything that is not yet a `jax.Array` is copied, except what the check made.

    Raises:
      TypeError, ValueError: as `checked_batch`.

    >>> buffer = np.zeros(2)
    >>> batch = own_batch({"x": buffer})
    >>> buffer[:] = 1
    >>> batch
    {'x': array([0., 0.], dtype=float32)}
    """
    if _is_simple(batch):
        batch = dict(batch)
        make_own(batch)
        return batch
    checked = _checked(batch)
    texts = checked.texts if isinstance(checked, Batch) else None
    leaves, structure = jax.tree.flatten(checked)
    del checked
    own = dict(enumerate(leaves))
    del leaves
    make_own(own)
    return _beside(structure.unflatten(own.values()), texts)


END = object()


def next_own_batch(batches: Iterator[Any]) -> Any:
    """The next batch, checked and own; END after the last.

    If nothing else refers to the dict, the arrays that were freshly made for it are not copied: a generator's
    `yield {"x": images[index]}` costs no copy.

    Raises:
      TypeError, ValueError: as `checked_batch`.
    """
    batch = next(batches, END)
    if batch is END:
        return END
    if type(batch) is dict and sys.getrefcount(batch) <= _OF_A_NEW_DICT and _is_simple(batch):
        make_own(batch)
        return batch
    return own_batch(batch)


def next_checked_batch(batches: Iterator[Any]) -> Any:
    """The next batch, checked, in whatever memory it lies; END after the last."""
    batch = next(batches, END)
    return END if batch is END else checked_batch(batch)


def _references_of_a_new_dict() -> int:
    batch = next(({} for _ in (None,)), END)
    return sys.getrefcount(batch)


_OF_A_NEW_DICT = _references_of_a_new_dict()


def _is_simple(batch: Object) -> bool:
    """Whether a batch is a dict of arrays that a device keeps as they are; quick to tell."""
    if type(batch) is not dict:
        return False
    for column in batch.values():
        if not (type(column) is np.ndarray and column.dtype in KEPT) and not isinstance(column, jax.Array):
            return False
    return True


def _checked(batch: AnyBatch) -> AnyBatch:
    if not isinstance(batch, Mapping):
        raise TypeError(
            f"a batch is a dict of arrays, and this one is {a_type(batch)}. Give each column "
            'a name, such as {"image": images, "label": labels}.'
        )
    # Reading a column of a Batch would gather it; its columns are arrays in any case.
    texts = batch.texts if isinstance(batch, Batch) else None
    if not isinstance(batch, Batch):
        batch, texts = texts_apart(batch)
        if texts and not batch:
            raise TypeError(
                f"batch holds no numbers: {', '.join(texts)} are strings, which no device can hold. Encode "
                "some as numbers of one shape: integer labels, padded token ids."
            )
        for name, column in batch.items():
            if isinstance(column, list):
                raise TypeError(
                    f"batch[{name!r}] is a list of {len(column)}, which is no array. Use "
                    f"np.asarray(batch[{name!r}])."
                )
    if type(batch) is not dict and jax.tree_util.all_leaves([batch]):
        batch = dict(batch)  # a mapping that JAX does not know, such as a UserDict
    leaves, structure = jax.tree.flatten(batch)
    try:
        return _beside(structure.unflatten([_kept("batch", leaf) for leaf in leaves]), texts)
    except (TypeError, ValueError):
        for path, leaf in jax.tree_util.tree_leaves_with_path(batch):  # again: the error names the place
            _kept(f"batch{jax.tree_util.keystr(path)}", leaf)
        raise


def _beside(batch: AnyBatch, texts: Mapping[str, np.ndarray] | None) -> AnyBatch:
    """A batch that was just made, with its strings."""
    if not texts:
        return batch
    if not isinstance(batch, Batch):
        return Batch(dict(batch), texts=texts)
    batch.texts = texts
    return batch


def _kept(place: str, leaf: Object) -> Any:
    return leaf if isinstance(leaf, jax.Array) else host_array(place, leaf)
