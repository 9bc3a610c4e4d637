"""Whose batches an iterable gives, where several processes train together: each its own, or all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fourbeat.data.batches import Batches
from fourbeat.data.plain_batches import check_batches, name_of
from fourbeat.data.streams.stream import Stream, cursor_of, shared
from fourbeat.distributed import num_processes
from fourbeat.trees.articles import a_type
from fourbeat.types import BatchSource


def local_batches(batches: BatchSource) -> Any:
    """Says that in each process these batches hold examples of its own: a part of every global batch.

    Each process gives the rows that its devices hold, all of them as many. A global batch has as many
    examples as the batches of all processes together. A pass ends in all processes when it ends in one, with
    an `UnevenPassWarning`; a batch of another size or form than that of the other processes is an error in
    all of them. A `Stream` keeps one place a process, and goes on with as many processes as it was saved by.

    With one process these are the batches themselves.

    Args:
      batches: a list of dicts of arrays, a loader, a generator, a `Stream`: see `fourbeat.loop`.

    Raises:
      TypeError: `batches` is not many batches, or is of `fourbeat.data`, which knows each process's rows.

    >>> import numpy as np
    >>> local_batches([{"x": np.ones(2)}])
    [{'x': array([1., 1.])}]
    """
    return _said(batches, is_local=True)


def global_batches(batches: BatchSource) -> Any:
    """Says that in every process these are the same batches: whole global ones, in the same order.

    Each process reads all of them, and puts the rows of its own devices there. The first batch and every
    100th after it are compared by a hash over all processes: where they differ, it is an error in all of
    them, and so is a pass that ends in some of them alone. A `Stream` has the same place in all of them, and
    goes on with any number of processes.

    With one process these are the batches themselves.

    Args:
      batches: as in `local_batches`.

    Raises:
      TypeError: as in `local_batches`.

    >>> import numpy as np
    >>> global_batches([{"x": np.ones(2)}])
    [{'x': array([1., 1.])}]
    """
    return _said(batches, is_local=False)


class ProcessBatches:
    """Batches of which it was said whose they are: made by `local_batches` and `global_batches`.

    Attributes:
      batches: as they were given.
      is_local: whether each process has its own.
    """

    def __init__(self, batches: BatchSource, *, is_local: bool):
        self.batches, self.is_local = batches, is_local

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def __repr__(self) -> str:
        return f"{'local' if self.is_local else 'global'}_batches({name_of(self.batches)})"


def is_local(batches: BatchSource) -> bool:
    """Whether it was said that each process has batches of its own; with one process nothing says it."""
    if isinstance(batches, Stream):
        return cursor_of(batches).is_local is True
    return isinstance(batches, ProcessBatches) and batches.is_local


def whose(batches: BatchSource) -> tuple[BatchSource, bool]:
    """The batches as they were given, and whether each process has its own.

    Raises:
      TypeError: nothing says it.
    """
    if isinstance(batches, ProcessBatches):
        return batches.batches, batches.is_local
    is_local = cursor_of(batches).is_local if isinstance(batches, Stream) else None
    if is_local is None:
        raise TypeError(
            f"nothing says whether {name_of(batches)} gives every one of the {num_processes()} processes the "
            "same batches or each its own part, and a wrong guess would train on other data in silence. Say "
            "it: fourbeat.data.local_batches(batches), where each process reads examples of its own; or "
            "fourbeat.data.global_batches(batches), where all read the same. Data that is read by number, "
            "fourbeat.data.Examples(source).batches(...), needs neither."
        )
    return batches, is_local


def _said(batches: BatchSource, *, is_local: bool) -> Any:
    name = f"{'local' if is_local else 'global'}_batches"
    if isinstance(batches, Batches | ProcessBatches):
        raise TypeError(
            f"{name} was given {a_type(batches)}, which knows the rows of each process. Use it as it is."
        )
    check_batches(batches)
    if num_processes() == 1:
        return batches
    if isinstance(batches, Stream):
        return shared(batches, is_local=is_local)
    return ProcessBatches(batches, is_local=is_local)
