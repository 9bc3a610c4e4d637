"""Sources of the batches of several processes: all have a batch, or none, and it lies over their mesh."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.sharding import Mesh

from fourbeat.compiling.blocks import NO_STEPS, Block
from fourbeat.data.agreeing import Agreement
from fourbeat.data.batches import Batches
from fourbeat.data.plain_batches import is_by_step, is_sequence, name_of
from fourbeat.data.process_batches import whose
from fourbeat.data.streams.stream import Stream
from fourbeat.looping.indexed_sources import BatchesByStep, SequenceSource, StepSource
from fourbeat.looping.stream_sources import PositionedSource, StreamSource
from fourbeat.shard.process_rows import ProcessRows, handed_over
from fourbeat.types import BatchSource, Object


def source_over(batches: BatchSource, mesh: Mesh | None) -> StepSource | SequenceSource | StreamSource:
    """The source that suits batches in each of several processes.

    Args:
      batches: `Batches`, or others of which it was said whose they are.
      mesh: of the devices of several processes; None where the loop is given none.

    Raises:
      TypeError: nothing says whose the batches are.
      ValueError: batches of one process alone come without a mesh; or, in every process, the passes of
        these do not fit together.
    """
    if isinstance(batches, Batches):
        return StepSource(batches if mesh is None else batches.over(ProcessRows(mesh)))
    given, is_local = whose(batches)
    if is_local and mesh is None:
        raise ValueError(
            f"local batches of {name_of(given)} are a part of a global one, and nothing says which rows they "
            "are. Give the loop the mesh: fourbeat.loop(batches, start=state.step, ...), of a state that "
            "lies on it, or fourbeat.loop(batches, mesh=mesh, ...)."
        )
    agreement = Agreement(name_of(given), is_local=is_local)
    placed = lambda batch: _handed_over(batch, mesh, is_local)
    if isinstance(given, Stream):
        return PositionedSource(given, agreement, placed)
    if is_by_step(given):
        return StepSource(AgreedSteps(given, agreement), placed)
    return (SequenceSource if is_sequence(given) else StreamSource)(given, agreement, placed)


class AgreedSteps:
    """Batches by step of a user's class, compared over the processes: see `BatchesByStep`."""

    def __init__(self, batches: BatchesByStep, agreement: Agreement):
        self._batches, self._agreement = batches, agreement
        self._length = agreement.of_length(len(batches)) or 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, step: int) -> Any:
        return self._seen(self._batches[step])

    def examples(self, step: int) -> int:
        """Those of all processes."""
        return self._batches.examples(step) * self._agreement.num_parts

    def stacked(self, step: int, num_steps: int, size: int) -> Any:
        """See `BatchesByStep`."""
        return self._seen(self._batches.stacked(step, num_steps, size))

    def _seen(self, batch: Object) -> Any:
        self._agreement.all_have(batch)
        return batch


def _handed_over(batch: Object, mesh: Mesh | None, is_local: bool) -> Any:
    if mesh is None or batch is NO_STEPS:
        return batch
    if isinstance(batch, Block):
        stack = handed_over(batch.batch, mesh, is_local=is_local, num_leading=1)
        return Block(stack, np.asarray(batch.num_steps, np.int32))
    return handed_over(batch, mesh, is_local=is_local)
