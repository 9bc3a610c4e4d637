"""Columns of strings and of bytes: no device holds them, so they stay on the host, beside the batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fourbeat.types import Object


def text_of(column: Object) -> np.ndarray | None:
    """A column of strings or of bytes as an array, the latter of objects; None where it is neither.

    >>> text_of(["a", "bc"]), text_of([b"a"]), text_of([1, 2])
    (array(['a', 'bc'], dtype='<U2'), array([b'a'], dtype=object), None)
    """
    if isinstance(column, list):
        kinds = set(map(type, column))
        if kinds not in ({str}, {bytes}):
            return None
        column = np.array(column, str if kinds == {str} else object)
    if not isinstance(column, np.ndarray) or column.ndim == 0 or column.dtype.kind not in "USO":
        return None
    if column.dtype.kind != "O" or all(isinstance(value, bytes) for value in column.flat):
        return column
    return column.astype(str) if all(isinstance(value, str) for value in column.flat) else None


def texts_apart(batch: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, np.ndarray]]:
    """The columns that a device can hold, and those of strings and bytes in memory of their own.

    A batch without strings is given back as it is.
    """
    texts = {name: text for name, column in batch.items() if (text := text_of(column)) is not None}
    if not texts:
        return batch, texts
    columns = {name: column for name, column in batch.items() if name not in texts}
    return columns, {name: text.copy() if text is batch[name] else text for name, text in texts.items()}
