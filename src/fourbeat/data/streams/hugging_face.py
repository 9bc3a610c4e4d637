"""Hugging Face's IterableDataset: examples in order, from shards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fourbeat.data.streams.source import OfIterable
from fourbeat.types import Object

_BUFFER = "BufferShuffledExamplesIterable"


class OfHuggingFace(OfIterable):
    """An `IterableDataset`. Where it shuffles its shards, each pass has an order of its own.

    Lists become arrays, in the types that the features name: a format would turn smaller integers into int64.
    """

    batching: str | None = "dataset.batch(32)"

    def __init__(self, dataset: Object, kind: str):
        super().__init__(dataset, kind)
        refuse_shuffle_buffer(dataset)
        self._dataset = dataset
        self._is_shuffled = bool(_buffer_sizes(dataset))
        self._dtypes = _dtypes(dataset.features)

    def begin(self, number: int, state: Object) -> Iterator[Any]:
        if self._is_shuffled:
            self._dataset.set_epoch(number)
        if state is not None:
            self._dataset.set_epoch(state["epoch"])  # it ignores the state of another epoch in silence
        # None is loaded too: else every pass begins at the state that was loaded before.
        self._dataset.load_state_dict(state)
        self._pass = iter(self._dataset)
        return map(self._as_arrays, self._pass)

    def end(self) -> None:
        super().end()
        self._dataset.load_state_dict(None)

    def _as_arrays(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {name: _column(column, self._dtypes.get(name)) for name, column in batch.items()}


def refuse_shuffle_buffer(dataset: Object) -> None:
    """Raises where examples would be lost.

    Raises:
      ValueError: the data set has a shuffle buffer.
    """
    size = max(_buffer_sizes(dataset), default=1)
    if size > 1:
        raise ValueError(
            f"cannot make a stream of a Hugging Face IterableDataset with a shuffle buffer (of {size} "
            "examples): its state does not hold the buffer, so that resumed, the examples in it would be "
            "lost. Shuffle the shards alone, .shuffle(seed=0, buffer_size=1), or take the data set by index: "
            "fb.data.Examples(dataset).batches(32, shuffle=True)."
        )


def _buffer_sizes(dataset: Object) -> list[int]:
    """The sizes of all shuffle buffers in a data set; no public name tells of them (datasets 5.2)."""
    sizes, waiting, seen = [], [getattr(dataset, "_ex_iterable", None)], set()
    while waiting:
        step = waiting.pop()
        if step is None or id(step) in seen:
            continue
        seen.add(id(step))
        if _BUFFER in (each.__name__ for each in type(step).__mro__):
            sizes.append(int(step.buffer_size))
        for value in vars(step).values():
            parts = value if isinstance(value, list | tuple) else [value]
            waiting.extend(part for part in parts if _is_step(part))
    return sizes


def _is_step(value: Object) -> bool:
    return any(each.__name__ == "_BaseExamplesIterable" for each in type(value).__mro__)


def _column(column: Object, dtype: np.dtype | None) -> Any:
    if isinstance(column, list):
        array = _array(column, dtype)
        return column if array is None else array
    is_numpy = isinstance(column, np.ndarray | np.generic)
    if is_numpy and dtype is not None and column.dtype.kind in "iuf" and column.dtype != dtype:
        return column.astype(dtype)
    return column


def _array(column: list[Any], dtype: np.dtype | None) -> np.ndarray | None:
    """The list as an array of numbers; None where it is none."""
    try:
        array = np.asarray(column, dtype)
    except (ValueError, TypeError, OverflowError):  # ragged, or with holes
        return None
    return array if array.dtype.kind in "biuf" else None


def _dtypes(features: Object) -> dict[str, np.dtype]:
    found = {name: _dtype(feature) for name, feature in (features or {}).items()}
    return {name: dtype for name, dtype in found.items() if dtype is not None}


def _dtype(feature: Object) -> np.dtype | None:
    """The type of the numbers in a feature, through lists of lists; None where they are no numbers."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    try:
        dtype = np.dtype(getattr(feature, "dtype", None) or "O")
    except TypeError:  # such as "string"
        return None
    return dtype if dtype.kind in "biuf" else None
