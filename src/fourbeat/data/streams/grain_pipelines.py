"""Grain: pipelines that are read in order, and what their workers need.

Grain gives the state of the batch that it handed out, whatever its threads and processes have read ahead.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

from fourbeat.data.grain_threads import GrainThreads
from fourbeat.data.libraries import is_grain_iter, is_grain_iterator, is_grain_loader, is_grain_map
from fourbeat.data.streams.main_script import refuse_unguarded
from fourbeat.data.streams.source import OfIterators, StateMethods
from fourbeat.types import BatchSource, Object


def is_grain(batches: BatchSource) -> bool:
    """Whether this is a data set, a loader or an iterator of Grain's."""
    return any(
        is_kind(batches) for is_kind in (is_grain_map, is_grain_iter, is_grain_loader, is_grain_iterator)
    )


def grain_kind(batches: BatchSource) -> str:
    """The name that messages use for it, whatever the class of its last step is."""
    if is_grain_map(batches):
        return "Grain MapDataset"
    if is_grain_iter(batches):
        return "Grain IterDataset"
    return "Grain DataLoader" if is_grain_loader(batches) else f"Grain {type(batches).__name__}"


def check_grain(batches: BatchSource) -> None:
    """Checks that Grain gives batches and that its workers can start; its flags are parsed for them.

    Raises:
      TypeError: it gives single examples.
      RuntimeError: its workers would run the whole script again.
    """
    if not is_grain(batches):
        return
    _refuse_examples(batches)
    _read_flags()
    if _has_workers(batches):
        refuse_unguarded(f"the {grain_kind(batches)} has worker processes")


class OfGrain(OfIterators):
    """Grain's `IterDataset` and its `DataLoader`."""

    batching: str | None = "dataset.batch(32), or grain.transforms.Batch(32) in a DataLoader"
    _threads: GrainThreads | None = None

    def open(self, number: int) -> None:
        check_grain(self._batches)

    def begin(self, number: int, state: Object) -> Iterator[Any]:
        self.end()
        self._threads = GrainThreads()
        self._pass = iter(self._batches)
        if state is not None:
            states = StateMethods(self._pass)
            _check_is_of_same_pipeline(states.get(), state)
            states.set(state)
        return self._pass

    def end(self) -> None:
        had_workers = self._pass is not None and _has_workers(self._batches)
        super().end()
        if self._threads is not None:
            self._threads.end()
        if had_workers:  # the queues to them lie in cycles, and their threads end where these are collected
            gc.collect()


def _check_is_of_same_pipeline(fresh: Object, saved: Object) -> None:
    """Grain takes the state of another pipeline in silence, where it finds what it looks for."""
    before, now = _num_workers(saved), _num_workers(fresh)
    if before != now:
        raise ValueError(f"its state is of {before} workers, and this pipeline has {now}")
    if isinstance(fresh, dict) and isinstance(saved, dict) and fresh.keys() != saved.keys():
        raise ValueError(f"its state has {', '.join(saved)}, and that of this pipeline {', '.join(fresh)}")


def _num_workers(state: Object) -> int:
    """The number of workers, or of interleaved parts, in a state; 0 if it has none."""
    if isinstance(state, dict):
        workers = state.get("iterators_in_use_states")
        return len(workers) if workers else max(map(_num_workers, state.values()), default=0)
    return max(map(_num_workers, state), default=0) if isinstance(state, list | tuple) else 0


def _read_flags() -> None:
    """Parses absl's flags where the program has not: Grain reads them when it starts workers."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _refuse_examples(batches: BatchSource) -> None:
    """Refuses a pipeline of known steps of which none makes batches."""
    kind = grain_kind(batches)
    if is_grain_loader(batches):
        operations = getattr(batches, "_operations", None)
        if operations is None or any("batch" in type(each).__name__.lower() for each in operations):
            return
        repair = "Give it grain.transforms.Batch(32) as its last operation"
    elif is_grain_map(batches) or is_grain_iter(batches):
        steps = _steps(batches)
        if any("batch" in type(step).__name__.lower() for step in steps) or not _is_known_whole(steps):
            return
        repair = "Batch them: dataset.batch(32)"
        if is_grain_map(batches):
            repair = "Batch them: dataset.batch(32), or fb.data.Examples(dataset).batches(32)"
    else:
        return
    raise TypeError(
        f"batches is the {kind}, which gives single examples: no step of it makes batches. {repair}. "
        f"If it gives batches already, pass fb.data.Stream(lambda: iter(...))."
    )


def _steps(dataset: Object) -> list[Any]:
    """Every step of a pipeline, those before an interleaving and in workers too."""
    steps, waiting = [], [dataset]
    while waiting:
        step = waiting.pop()
        steps.append(step)
        before = [*getattr(step, "parents", ()), *_listed(getattr(step, "_datasets", ()))]
        inner = getattr(step, "_iter_parent", None)
        waiting.extend(before if inner is None else [*before, inner])
    return steps


def _listed(datasets: Object) -> list[Any]:
    return list(datasets) if isinstance(datasets, list | tuple) else []


def _is_known_whole(steps: list[Any]) -> bool:
    """Whether the pipeline begins with a class of Grain's: a class of the user's may give batches."""
    begins = [
        step
        for step in steps
        if not getattr(step, "parents", ()) and not _listed(getattr(step, "_datasets", ()))
    ]
    return all(type(step).__name__ in ("SourceMapDataset", "RangeMapDataset") for step in begins)


def _has_workers(batches: BatchSource) -> bool:
    if is_grain_loader(batches):
        return batches.multiprocessing_options.num_workers > 0
    return any(type(step).__name__ == "ProcessPrefetchIterDataset" for step in _steps(batches))
