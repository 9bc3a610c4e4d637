"""Names what resumes exactly, in the same library, for data that does not."""

from collections.abc import Mapping

from fourbeat.data.libraries import (
    is_grain_iter,
    is_grain_loader,
    is_hugging_face_stream,
    is_of,
    is_stateful_loader,
    is_tf_dataset,
    is_torch_loader,
)
from fourbeat.data.streams.source import names_of_state
from fourbeat.types import BatchSource


def exact_way(batches: BatchSource) -> str | None:
    """What to use in place of an iterable, a sentence without its full stop; None where nothing is known.

    >>> exact_way(iter([]))
    """
    batches = getattr(batches, "unpadded", batches)
    if is_torch_loader(batches):
        if is_of(batches.dataset, "torch.utils.data", "IterableDataset"):
            return (
                "fb.data.Stream(loader) of torchdata's StatefulDataLoader in its place does, where the data "
                "set has state_dict and load_state_dict"
            )
        return (
            "fb.data.Examples(loader.dataset).batches(32, shuffle=True, seed=0) gives any step by its "
            "number, and fb.data.Stream(loader) goes on where torchdata's StatefulDataLoader takes its place"
        )
    is_numbered = hasattr(batches, "__getitem__") and hasattr(batches, "__len__")
    if is_numbered and not isinstance(batches, Mapping):
        return "It is read by number: pass it to the loop as it is"
    has_state = is_grain_iter(batches) or is_grain_loader(batches) or is_stateful_loader(batches)
    if has_state or is_hugging_face_stream(batches) or is_tf_dataset(batches) or names_of_state(batches):
        return "fb.data.Stream of it goes on exactly, from a state that is saved with the run"
    return None
