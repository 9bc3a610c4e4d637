"""Which kind of source an object is, or why it is none."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fourbeat.data.libraries import (
    is_grain_iter,
    is_grain_iterator,
    is_grain_loader,
    is_grain_map,
    is_hugging_face_stream,
    is_stateful_loader,
    is_tf_dataset,
)
from fourbeat.data.streams.exact_ways import exact_way
from fourbeat.data.streams.grain_pipelines import OfGrain, grain_kind
from fourbeat.data.streams.hugging_face import OfHuggingFace
from fourbeat.data.streams.source import (
    OfFunction,
    OfIterable,
    OfIterator,
    OfIterators,
    Source,
    close,
    names_of_state,
)
from fourbeat.data.streams.tf_datasets import OfTensorFlow
from fourbeat.data.streams.torch_loaders import OfStatefulLoader
from fourbeat.types import BatchSource


def source_of(batches: BatchSource) -> Source:
    """The source that suits what `Stream` was given.

    Raises:
      TypeError: it has no state, or is no source of batches.
      ValueError: it has a state that does not bring every example back.
    """
    if callable(batches) and not isinstance(batches, Iterable):
        make: Any = batches
        return OfFunction(make, _made)
    return _source_of(batches, is_made_anew=False)


def _made(batches: BatchSource) -> Source:
    """The source of one pass, made by a function."""
    return _source_of(batches, is_made_anew=True)


def _source_of(batches: BatchSource, *, is_made_anew: bool) -> Source:
    if is_grain_iter(batches) or is_grain_loader(batches):
        return OfGrain(batches, grain_kind(batches))
    if is_stateful_loader(batches):
        return OfStatefulLoader(batches, "StatefulDataLoader")
    if is_hugging_face_stream(batches):
        return OfHuggingFace(batches, "Hugging Face IterableDataset")
    if is_tf_dataset(batches):
        return OfTensorFlow(batches, "tf.data.Dataset", is_made_anew=is_made_anew)
    kind = "Grain iterator" if is_grain_iterator(batches) else type(batches).__name__
    if isinstance(batches, Iterable) and not isinstance(batches, Mapping | str | bytes):
        if names_of_state(batches) is not None:
            return OfIterator(batches, kind) if isinstance(batches, Iterator) else OfIterable(batches, kind)
        if not isinstance(batches, Iterator) and _has_iterators_with_state(batches):
            return OfIterators(batches, kind)
    raise TypeError(_refusal(batches))


def _has_iterators_with_state(batches: Iterable[Any]) -> bool:
    if exact_way(batches) is not None:  # known to have none; making an iterator may start workers
        return False
    iterator = iter(batches)
    try:
        return names_of_state(iterator) is not None
    finally:
        close(iterator)


def _refusal(batches: BatchSource) -> str:
    if is_grain_map(batches):
        return (
            "a Grain MapDataset is no stream: it is read by index, and needs no state. Pass it to the loop "
            "as it is."
        )
    way = exact_way(batches)
    if way is None:
        way = (
            "Give it, or its iterators, the methods get_state and set_state, or state_dict and "
            "load_state_dict; or pass a function that makes what has them"
        )
    return (
        f"cannot make a stream of the {type(batches).__name__}: it has no state that could be saved. {way}."
    )
