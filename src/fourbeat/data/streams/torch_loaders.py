"""torchdata's StatefulDataLoader, and what it forgets."""

import multiprocessing
from collections.abc import Iterator
from typing import Any

from fourbeat.data.libraries import is_hugging_face_stream, is_of
from fourbeat.data.streams.hugging_face import refuse_shuffle_buffer
from fourbeat.data.streams.main_script import refuse_unguarded
from fourbeat.data.streams.source import OfIterable
from fourbeat.types import Object


def check_torch(loader: Object) -> None:
    """Checks that the workers of a PyTorch loader can start.

    Raises:
      RuntimeError: they would run the whole script again.
    """
    if is_of(loader, "torch.utils.data", "DataLoader") and loader.num_workers > 0:
        context = loader.multiprocessing_context or multiprocessing
        method = context.get_start_method()
        if method != "fork":
            refuse_unguarded(f"the {type(loader).__name__} has worker processes, started by {method}")


class OfStatefulLoader(OfIterable):
    """A `StatefulDataLoader`. The state of its generator is kept beside its own.

    Without workers it draws the seed of each pass from the generator of its sampler, and its state does not
    hold that seed: the passes after a resumed one would have another order (torchdata 0.11).
    """

    def __init__(self, loader: Object, kind: str):
        super().__init__(loader, kind)
        self._loader = loader
        if is_hugging_face_stream(loader.dataset):
            refuse_shuffle_buffer(loader.dataset)
        why = _inexact(loader)
        if why is not None:
            raise ValueError(f"cannot make a stream of this StatefulDataLoader: {why}.")

    def open(self, number: int) -> None:
        check_torch(self._loader)

    def _from(self, state: Object) -> Iterator[Any]:
        if is_hugging_face_stream(self._loader.dataset):
            self._loader.dataset.load_state_dict(None)  # else it begins every pass at a state loaded before
        if state is None:
            return iter(self._loader)
        batches = super()._from(state["loader"])
        if state["generator"] is not None:
            self._loader.generator.set_state(state["generator"])
        return batches

    def state(self) -> Any:
        generator = None if self._loader.num_workers else self._loader.generator
        drawn = None if generator is None else generator.get_state()
        return {"loader": self._states.get(), "generator": drawn}

    def end(self) -> None:
        """Ends the workers now: they end with their iterator, but an error may still hold that."""
        shut_down = getattr(self._pass, "_shutdown_workers", None)
        if shut_down is not None:
            shut_down()
        self._pass = None
        self._loader.load_state_dict({})


def _inexact(loader: Object) -> str | None:
    """Why a loader would not go on exactly, and what to do; None where it does (torchdata 0.11)."""
    sampler, workers = loader.sampler, loader.num_workers
    is_shared = loader.generator is not None and getattr(sampler, "generator", None) is loader.generator
    if is_shared and not workers and getattr(sampler, "replacement", False):
        return (
            "it shares its generator with a sampler that draws with replacement, and its state does not tell "
            "what was drawn. Give the sampler a generator of its own"
        )
    if workers and not getattr(loader, "in_order", True):
        return "with in_order=False its state does not tell which batches were given. Leave that out"
    if workers and loader.persistent_workers and is_hugging_face_stream(loader.dataset):
        return (
            "its workers persist, and each of its passes over a Hugging Face data set would begin where the "
            "first one went on. Leave persistent_workers out"
        )
    return None
