"""Warnings of a loop: it gives fewer ticks than were asked for, or other batches than before."""

import warnings

from fourbeat.types import Object


class LoopWarning(UserWarning):
    """A loop does not do what was probably meant; the base of its warnings."""


class StartBeyondEndWarning(LoopWarning):
    """A loop starts beyond its end, so it gives no tick."""


class EndedEarlyWarning(LoopWarning):
    """An iterator ended before `until` was reached."""


class InexactResumeWarning(LoopWarning):
    """A plain iterable is read and dropped up to `start`; it may give other batches than before."""


def warn_of_start_beyond_end(
    start: int, end: int, until: Object, *, by_number: bool, stacklevel: int
) -> None:
    """Warns that a loop starts beyond the step that ends it; `by_number` says that the data are `Batches`."""
    repair = (
        "the step that has seen as many examples is batches.step_of(examples=...), for "
        "state.replace(step=...)"
        if by_number
        else "begin at the step that has seen as many examples"
    )
    warnings.warn(
        f"start={start} is beyond step {end}, at which until={until!r} ends the loop, so there is no tick. "
        f"Where the batch size has changed, steps are other steps: {repair}.",
        StartBeyondEndWarning,
        stacklevel=stacklevel,
    )


def warn_of_early_end(name: str, step: int, until: Object, *, stacklevel: int) -> None:
    """Warns that an iterator has ended after `step` steps."""
    warnings.warn(
        f"{name} ended after {step} step{'' if step == 1 else 's'}, before until={until!r}: an iterator "
        "makes one pass. Pass what can be iterated anew for each epoch, such as data.batches(...) or a list, "
        "or ask for until=at(epochs=1).",
        EndedEarlyWarning,
        stacklevel=stacklevel,
    )


def warn_of_inexactness(name: str, way: str | None, start: int, *, stacklevel: int) -> None:
    """Warns that batches are read and dropped up to the step at which a loop begins, or goes on later.

    Args:
      name: of the source.
      way: an exact one in the same library; None where there is none.
      start: the step at which the loop begins.
      stacklevel: as in `warnings.warn`; 1 means the caller of this function.
    """
    if start:
        read = f"start={start}: the batches before are read from {name} and dropped."
    else:
        read = f"a run that goes on reads batches from {name} again, up to its step, and drops them."
    if way is None:
        way = (
            "data.batches(...) and a list give any step by its number; what has a state of its own goes on "
            "in fb.data.Stream(...)"
        )
    warnings.warn(
        f"{read} The run goes on exactly only if iterating gives the same batches in the same order in every "
        f"process; a loader that shuffles does not. {way}.",
        InexactResumeWarning,
        stacklevel=stacklevel + 1,
    )
