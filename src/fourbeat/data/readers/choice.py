"""Which reader suits a source."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fourbeat.data.libraries import is_grain_map, is_of
from fourbeat.data.readers.by_number import ManyAtOnce, OfArray, OneByOne, name_of
from fourbeat.data.readers.hf_dataset import OfHfDataset
from fourbeat.data.readers.reader import Reader
from fourbeat.trees.articles import a_type
from fourbeat.trees.example_counts import has_axes, is_batch, listed
from fourbeat.types import Object


def reader_of(source: Object, *, is_decoded: bool) -> Reader:
    """The reader that suits a source.

    Args:
      source: of examples.
      is_decoded: whether a function of the user's takes each example: it says that they are examples.

    Raises:
      TypeError: it cannot be read by number, or holds no examples.
    """
    if all(hasattr(source, wanted) for wanted in ("__len__", "read", "place", "order_of")):
        return source
    name = name_of(source)
    if isinstance(source, Mapping):
        if is_of(source, "datasets", "DatasetDict"):
            raise TypeError(
                f"source is {name} of {', '.join(source)}: name one of them, as in source['train']."
            )
        raise TypeError(
            f"source is one {type(source).__name__} of columns, not examples by number. Columns of equal "
            "length are fourbeat.data.Arrays(**columns)."
        )
    if is_of(source, "pandas", "DataFrame"):
        raise TypeError(
            "source is a pandas DataFrame, which is columns, not examples by number. Its columns are "
            "fourbeat.data.Arrays(**frame), its rows fourbeat.data.Examples(frame.to_dict('records'))."
        )
    if callable(getattr(source, "batches", None)):
        raise TypeError(f"source is {name}, which is a data set already: use its batches(...).")
    if all(hasattr(source, wanted) for wanted in ("stacked", "batch_size", "read")):
        raise TypeError(f"source is {name}, which is batches already: pass it to fourbeat.loop.")
    if isinstance(source, str | bytes) or not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        is_passed_over = isinstance(source, Iterable) and not isinstance(source, str | bytes)
        repair = (
            " Examples that come one after the other are a stream: fourbeat.data.Stream(source)."
            if is_passed_over
            else ""
        )
        raise TypeError(
            f"source is of type {type(source).__name__}, which cannot be read by number: expected len() and "
            f"[i].{repair}"
        )
    if isinstance(source, np.ndarray):
        return OfArray(source)
    if isinstance(source, list | tuple) and not is_decoded:
        _check_holds_no_batches(source)
    if is_of(source, "datasets", "Dataset"):
        return OfHfDataset(source)
    if is_grain_map(source):
        _check_grain(source)
    return ManyAtOnce(source) if hasattr(source, "__getitems__") else OneByOne(source)


def _check_holds_no_batches(source: list[Any] | tuple[Any, ...]) -> None:
    """Raises for a list of dicts that may be batches, as `fourbeat.loop` takes them."""
    if not source or not isinstance(source[0], Mapping) or not (has_axes(source[0]) and is_batch(source[0])):
        return
    raise TypeError(
        f"source is {a_type(source)} that may hold batches: its first entry has arrays that share a "
        f"leading axis: {listed(source[0])}. If these are batches, pass the {type(source).__name__} to "
        "fourbeat.loop. If they are examples, say so: decode=dict."
    )


def _check_grain(source: Object) -> None:
    """A Grain `MapDataset` gives one example at a time, each once."""
    steps = [source]
    while steps:
        each = steps.pop()
        kind = type(each).__name__
        if kind == "BatchMapDataset":
            raise TypeError(
                f"source is a Grain data set that is batched already: {each}. Leave its batch(...) out, or "
                "pass it to fourbeat.loop as it is: it is batches by itself."
            )
        if kind == "RepeatMapDataset":
            raise TypeError(
                f"source is a Grain data set that repeats its examples: {each}. Leave its repeat(...) out: "
                "batches go from one epoch to the next by themselves."
            )
        steps.extend(each.parents)
