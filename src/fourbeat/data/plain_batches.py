"""Plain batches: dicts of arrays that belong to the user, from what can be read as many of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fourbeat.data.batch import Batch
from fourbeat.data.batches import Batches
from fourbeat.data.decoded import ExampleError
from fourbeat.data.libraries import is_data_set, is_grain_map, is_tf_dataset
from fourbeat.data.own_batches import END, next_own_batch, own_batch
from fourbeat.data.streams.grain_pipelines import check_grain, grain_kind, is_grain
from fourbeat.data.streams.stream import Stream, cursor_of
from fourbeat.data.streams.tf_datasets import in_numpy
from fourbeat.data.streams.torch_loaders import check_torch
from fourbeat.trees.example_counts import is_example, listed, num_examples
from fourbeat.types import Batch as AnyBatch
from fourbeat.types import BatchSource, Object


def check_batches(batches: BatchSource) -> None:
    """Whether this can be many batches.

    Raises:
      TypeError: it is a single batch, a data set of examples, or nothing that can be iterated.
      RuntimeError: its workers would run the whole script again.
    """
    if isinstance(batches, Mapping | str | bytes):
        raise TypeError(
            f"batches is one {type(batches).__name__}, not many batches. Pass the batches in a list: [batch]."
        )
    if callable(getattr(batches, "batches", None)):
        raise TypeError(
            f"batches is {name_of(batches)} itself, which has no batch size. Pass data.batches(32)."
        )
    if not isinstance(batches, Iterable) and not is_sequence(batches):
        raise TypeError(
            f"batches is of type {type(batches).__name__}, which cannot be iterated. Pass "
            "data.batches(...), a list of dicts, or an iterable of dicts."
        )
    check_grain(batches)
    check_torch(batches)


def is_by_step(batches: BatchSource) -> bool:
    """Whether batches are a function of the global step, as `Batches` are: handed on as they are."""
    return all(hasattr(batches, name) for name in ("__len__", "__getitem__", "examples", "stacked"))


def is_sequence(batches: BatchSource) -> bool:
    """Whether batches have a length and are read by number."""
    return hasattr(batches, "__getitem__") and hasattr(batches, "__len__")


def one_pass(batches: BatchSource) -> Iterator[tuple[Any, int | None]]:
    """The batches of one pass, plain ones checked and in memory of their own.

    Returns:
      Pairs of a batch and of how many of its examples, the first ones, are real; None where all are, or where
      the batch itself tells.

    Raises:
      TypeError: this cannot be many batches, or one of them is no batch.
      ValueError: a value does not fit the type in which a device keeps it.

    >>> import numpy as np
    >>> [(batch["x"].dtype, num_real) for batch, num_real in one_pass([{"x": np.ones(2)}])]
    [(dtype('float32'), None)]
    """
    check_batches(batches)
    if isinstance(batches, Batches):
        yield from ((batch, None) for batch in batches)
    elif is_by_step(batches):
        yield from ((batches[step], None) for step in range(len(batches)))
    elif isinstance(batches, Stream) or hasattr(batches, "with_examples"):  # the latter of what is padded
        pairs = cursor_of(batches) if isinstance(batches, Stream) else batches
        yield from ((own_batch(batch), num_real) for batch, num_real in pairs.with_examples())
    else:
        each = iter(PlainSequence(batches)) if is_sequence(batches) else iterated(batches)
        yield from ((batch, None) for batch in iter(lambda: next_own_batch(each), END))


def iterated(batches: Iterable[Any]) -> Iterator[Any]:
    """One pass over an iterable. The first value of a library's data set must not be a single example."""
    return _checked(batches) if is_data_set(batches) else iter(batches)


def _checked(batches: Iterable[Any]) -> Iterator[Any]:
    for number, batch in enumerate(map(in_numpy, batches) if is_tf_dataset(batches) else batches):
        if number == 0:
            _check_is_no_example(batches, batch)
        yield batch


class PlainSequence(Sequence[Any]):
    """A sequence of batches. The first one is checked: it must not be a single example.

    Attributes:
      takes_any_step: whether its number may be that of any step: a Grain `MapDataset` has an order of its own
        for each pass.
    """

    def __init__(self, batches: BatchSource):
        self._batches = batches
        self.takes_any_step = is_grain_map(batches) or getattr(batches, "takes_any_step", False)
        # These hold what the user put into them; any other may be a data set, which gives single examples.
        self._is_checked = isinstance(batches, list | tuple | deque)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: Object) -> Any:
        batch = self._read(index)
        if batch is None and self.takes_any_step:
            raise ValueError(
                f"batch {index} of {name_of(self._batches)} is None: a filter leaves holes in what is read "
                "by index. Filter before you batch, dataset.filter(...).to_iter_dataset().batch(32), in "
                "fb.data.Stream(...)."
            )
        if not self._is_checked:
            _check_is_no_example(self._batches, batch)
            self._is_checked = True
        return batch

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def _read(self, index: Object) -> Any:
        if not self.takes_any_step:
            return self._batches[index]
        try:
            return self._batches[index]
        except Exception as error:
            name = name_of(self._batches)
            raise ExampleError(
                f"cannot read batch {index} of {name}: {type(error).__name__}: {error}. Mend the example, or "
                "leave it out in the source.",
                source=name,
                number=None,
            ) from error


def count_examples(batch: AnyBatch) -> int:
    """Examples of a batch, padding counted in; those of a `Batch` without gathering it.

    Raises:
      ValueError: its columns have no common leading axis.
    """
    if not isinstance(batch, Batch):
        return num_examples(batch)
    is_plain = batch.columns is not None and batch.padding_weight is None  # beside it are its strings
    return num_examples(batch.columns) if is_plain else batch.num_examples


def name_of(batches: BatchSource) -> str:
    """How the errors name a source of batches."""
    if isinstance(batches, Stream):
        return cursor_of(batches).name
    batches = getattr(batches, "unpadded", batches)
    return f"the {grain_kind(batches) if is_grain(batches) else type(batches).__name__}"


def no_batch(batches: BatchSource, epoch: int, step: int) -> ValueError:
    """The error for a pass that gave no batch, after so many whole ones and so many steps."""
    if epoch == 0:
        return ValueError(
            f"batches is empty: {name_of(batches)} gave no batch. Check the filter or the split "
            "that it "
            'comes from; with remainder="drop" fewer examples than one batch give none.'
        )
    return ValueError(
        f"pass {epoch + 1} over {name_of(batches)} gave no batch, after {step} in {epoch}: it can "
        "only be iterated once. Pass iter(batches) for one epoch, or a list or a class whose "
        "__iter__ begins anew."
    )


def _check_is_no_example(batches: BatchSource, given: Object) -> None:
    if not isinstance(given, Batch) and is_example(given):
        way = "Examples(source).batches(32)" if is_sequence(batches) else "Arrays(...).batches(32)"
        raise TypeError(
            f"batches is {name_of(batches)}, which gives single examples: {listed(given)}, without an "
            f"axis of examples that all share. Batch them: fb.data.{way}. If it gives batches, with a scalar "
            "for all of their examples, pass iter(batches)."
        )
