"""Batches of one shape from batches of any source: short ones are filled with examples of weight 0."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from fourbeat.data.plain_batches import PlainSequence, check_batches, count_examples, is_by_step, is_sequence
from fourbeat.data.process_batches import ProcessBatches
from fourbeat.data.short_batches import filled
from fourbeat.data.streams.stream import Stream, formed
from fourbeat.data.whole_numbers import whole_number
from fourbeat.types import BatchSource


def padded(batches: BatchSource, batch_size: int) -> Any:
    """The batches, each with `batch_size` examples and a column `weight` that is 0 for those that fill it.

    A loss, its gradient, metrics and scores are those of the batches without them, and one program serves
    every batch. A weight column that is there already stays for the real examples. BatchNorm in training
    sees those that fill: drop short batches there, or mask them.

    Args:
      batches: dicts of arrays, in any nesting: a list, a Grain `MapDataset`, a loader, a generator, or a
        `Stream`.
      batch_size: examples of the longest batch.

    Returns:
      Batches that are read as `batches` are, by number, anew for each pass, once, or as a `Stream` with a
      state.

    Raises:
      TypeError: `batches` is not many batches, or is padded already.
      ValueError: `batch_size` is below 1; when read, where a batch is longer than that.

    >>> import numpy as np
    >>> [batch["weight"].tolist() for batch in padded([{"x": np.ones(2)}, {"x": np.ones(1)}], 2)]
    [[1.0, 1.0], [1.0, 0.0]]
    """
    batch_size = whole_number("batch_size", batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; a batch needs at least 1 example.")
    if is_by_step(batches):
        raise TypeError(
            f"the {type(batches).__name__} gives batches of one shape already. Short ones are padded with "
            'batches(..., remainder="pad"), the default.'
        )
    if isinstance(batches, ProcessBatches):
        return ProcessBatches(padded(batches.batches, batch_size), is_local=batches.is_local)
    if isinstance(batches, Stream):
        return formed(batches, partial(filled, batch_size=batch_size))
    check_batches(batches)
    if is_sequence(batches):
        return PaddedSequence(batches, batch_size)
    return (PaddedIterator if isinstance(batches, Iterator) else Padded)(batches, batch_size)


class Padded(Iterable[Any]):
    """An iterable whose batches are filled. The classes below are read as the batches that they hold.

    Attributes:
      unpadded: the batches as they are given.
      batch_size: examples of each batch.
    """

    def __init__(self, batches: BatchSource, batch_size: int):
        self.unpadded = batches
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.unpadded)

    def __iter__(self) -> Iterator[Any]:
        return (filled(batch, self.batch_size) for batch in self.unpadded)

    def with_examples(self) -> Iterator[tuple[Any, int]]:
        """One pass: each batch, and how many of its examples, the first ones, are real."""
        return ((filled(batch, self.batch_size), count_examples(batch)) for batch in self.unpadded)


class PaddedIterator(Padded, Iterator[Any]):
    """An iterator: one pass."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return filled(next(self.unpadded), self.batch_size)


class PaddedSequence(Padded, Sequence[Any]):
    """Batches by number."""

    def __init__(self, batches: BatchSource, batch_size: int):
        super().__init__(PlainSequence(batches), batch_size)

    def __getitem__(self, index: Any) -> Any:
        return filled(self.unpadded[index], self.batch_size)

    @property
    def takes_any_step(self) -> bool:
        """Whether the number may be that of any step, beyond a pass too."""
        return self.unpadded.takes_any_step
