"""Plain batches in memory of their own: what the user can write is copied, in types that JAX keeps."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from fourbeat.data.batch import Batch
from fourbeat.data.host_arrays import KEPT, host_array
from fourbeat.data.own_memory import make_own
from fourbeat.trees.articles import a_type
from fourbeat.types import Batch as AnyBatch
from fourbeat.types import Object


def checked_batch(batch: AnyBatch) -> AnyBatch:
    """A batch whose leaves a device can hold, still on the host; the same object if nothing changes.

    Args:
      batch: a mapping of columns, each an array or a pytree of arrays.

    Returns:
      The same pytree of NumPy arrays, in types that JAX keeps, and the user's own `jax.Array`s. It may share
      the memory of the batch.

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
    leaves, structure = jax.tree.flatten(_checked(batch))
    own = dict(enumerate(leaves))
    del leaves
    make_own(own)
    return structure.unflatten(own.values())


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
    for name, column in () if isinstance(batch, Batch) else batch.items():
        if isinstance(column, list):
            if column and all(isinstance(value, str) for value in column):
                raise TypeError(
                    f"batch[{name!r}] is a list of strings, which no device can hold. Encode them as numbers "
                    "of one shape (integer labels, padded token ids), or leave the column out. Strings stay "
                    "on the host, beside batches that are read by number: fb.data.Examples(source)."
                )
            raise TypeError(
                f"batch[{name!r}] is a list of {len(column)}, which is no array. Use "
                f"np.asarray(batch[{name!r}])."
            )
    if type(batch) is not dict and jax.tree_util.all_leaves([batch]):
        batch = dict(batch)  # a mapping that JAX does not know, such as a UserDict
    leaves, structure = jax.tree.flatten(batch)
    try:
        return structure.unflatten([_kept("batch", leaf) for leaf in leaves])
    except (TypeError, ValueError):
        for path, leaf in jax.tree_util.tree_leaves_with_path(batch):  # again: the error names the place
            _kept(f"batch{jax.tree_util.keystr(path)}", leaf)
        raise


def _kept(place: str, leaf: Object) -> Any:
    return leaf if isinstance(leaf, jax.Array) else host_array(place, leaf)
