"""Which source suits batches: by number, or in the order in which they come."""

from jax.sharding import Mesh

from fourbeat.data.plain_batches import check_batches, is_by_step, is_sequence
from fourbeat.data.streams.stream import Stream
from fourbeat.distributed import num_processes
from fourbeat.looping.indexed_sources import SequenceSource, StepSource
from fourbeat.looping.process_sources import source_over
from fourbeat.looping.stream_sources import PositionedSource, StreamSource
from fourbeat.shard.process_rows import mesh_of_processes
from fourbeat.types import BatchSource, Scalar


def source_of(
    batches: BatchSource, mesh: Mesh | None = None, start: Scalar = 0
) -> StepSource | SequenceSource | StreamSource:
    """The source that suits `batches`.

    Args:
      batches: as `fourbeat.loop` takes them.
      mesh: that the batches are for, or None.
      start: the step from which they are read; an array over several processes tells the mesh.
    """
    check_batches(batches)
    over = mesh_of_processes(mesh, start)
    if num_processes() > 1:
        return source_over(batches, over)
    if isinstance(batches, Stream):
        return PositionedSource(batches)
    if is_by_step(batches):
        return StepSource(batches)
    return SequenceSource(batches) if is_sequence(batches) else StreamSource(batches)
