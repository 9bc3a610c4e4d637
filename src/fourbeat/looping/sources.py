"""Which source suits batches: by number, or in the order in which they come."""

from fourbeat.data.plain_batches import check_batches, is_by_step, is_sequence
from fourbeat.data.streams.stream import Stream
from fourbeat.looping.indexed_sources import SequenceSource, StepSource
from fourbeat.looping.stream_sources import PositionedSource, StreamSource
from fourbeat.types import BatchSource


def source_of(batches: BatchSource) -> StepSource | SequenceSource | StreamSource:
    """The source that suits `batches`."""
    check_batches(batches)
    if isinstance(batches, Stream):
        return PositionedSource(batches)
    if is_by_step(batches):
        return StepSource(batches)
    return SequenceSource(batches) if is_sequence(batches) else StreamSource(batches)
