"""Which source suits batches: by number, or in the order in which they come."""

from jax.sharding import Mesh

from fourbeat.data.plain_batches import check_batches, is_by_step, is_sequence
from fourbeat.data.streams.stream import Stream
from fourbeat.distributed import num_processes
from fourbeat.looping.indexed_sources import SequenceSource, StepSource
from fourbeat.looping.process_sources import source_over
from fourbeat.looping.stream_sources import PositionedSource, StreamSource
from fourbeat.types import BatchSource


def source_of(batches: BatchSource, mesh: Mesh | None = None) -> StepSource | SequenceSource | StreamSource:
    """The source that suits `batches`.

    Args:
      batches: as `fourbeat.loop` takes them.
      mesh: of the devices of several processes that train together; None where there is none.
    """
    check_batches(batches)
    if num_processes() > 1:
        return source_over(batches, mesh)
    if isinstance(batches, Stream):
        return PositionedSource(batches)
    if is_by_step(batches):
        return StepSource(batches)
    return SequenceSource(batches) if is_sequence(batches) else StreamSource(batches)
