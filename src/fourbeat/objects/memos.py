"""Which writes a compiled call loses: all but memos."""

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from fourbeat.objects.comparing import holds_tracer
from fourbeat.objects.probing import overwritten
from fourbeat.objects.settling import SecondRun
from fourbeat.objects.slots import IteratorSlots, RandomSlots
from fourbeat.objects.snapshot import Change, Snapshot


def lost_writes(
    changes: Sequence[Change],
    reached: Callable[[], Snapshot],
    run: Callable[[], Iterable[Any]],
    known: Container[int],
) -> tuple[list[Change], SecondRun | None]:
    """The writes of a run that a compiled call would not make. What the trials write is not put back.

    Args:
      changes: what the run wrote.
      reached: what the function reaches, as the run left it.
      run: traces the function again and gives the arrays that the program captured; may raise.
      known: ids of the tracers that it may capture.

    Returns:
      The writes, none where all are memos; and the second run, None where none was needed.
    """
    lost = [
        each
        for each in changes
        if holds_tracer(each.after) or isinstance(each.holder.reader, (IteratorSlots, RandomSlots))
    ]
    if lost:
        return lost, None
    second = SecondRun(changes, reached(), run, known)
    if second.met_dead_tracer:
        return list(changes), second
    lost = [*(each for each in changes if not second.settled(each)), *second.late()]
    if not lost:
        places = overwritten(changes, second)
        lost = [each for each in changes if each.place in places]
    return lost, second
