"""Which writes are memos: a second run finds their value, and keeps what is put in its place."""

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import jax
from jax.core import Tracer

from fourbeat.objects.comparing import ABSENT, holds_tracer
from fourbeat.objects.probing import overwritten
from fourbeat.objects.slots import MOVED_BY_USE, CacheSlots, IteratorSlots, RandomSlots
from fourbeat.objects.snapshot import Change, Snapshot
from fourbeat.trees.paths import lies_in


class MemoTrial:
    """Runs a function again, from what its first run has left, and with other values in the slots.

    A compiled call loses every write that is no memo. What the runs write is not put back.

    Args:
      changes: what the first run wrote.
      between: what the function reaches, as the first run left it.
      run: traces the function again and gives the arrays that the program captured; may raise.
      known: ids of the tracers that it may capture, those of traces around both runs.
      tries: whose slots may hold another value for a run.

    Attributes:
      still: what the second run wrote.
      error: what it raised, or None.
      met_dead_tracer: whether it met a tracer of the first run.
    """

    def __init__(
        self,
        changes: Sequence[Change],
        between: Snapshot,
        run: Callable[[], Iterable[Any]],
        known: Container[int] = (),
        *,
        tries: Callable[[Change], bool] = lambda change: True,
    ):
        self.changes = changes
        self.error: Exception | None = None
        # A used up iterator stays as it is in the second run, and a slot may hold the first run's tracer.
        is_lost = [holds_tracer(c.after) or isinstance(c.holder.reader, _ALWAYS_LOST) for c in changes]
        self._lost = {change.place for change, lost in zip(changes, is_lost, strict=True) if lost}
        captured: Iterable[Any] = ()
        try:
            captured = run()
        except Exception as error:  # the first run worked, so what this one raises follows from it
            self.error = error
        self.still = between.changes()
        self.met_dead_tracer = isinstance(self.error, jax.errors.UnexpectedTracerError) or any(
            isinstance(each, Tracer) and id(each) not in known for each in captured
        )
        alike = [c for c in changes if not isinstance(c.holder.reader, MOVED_BY_USE) and self.is_memo(c)]
        self._lost |= overwritten([change for change in alike if tries(change)], run)

    def is_memo(self, change: Change) -> bool:
        """Whether a compiled call need not make a write of the first run again."""
        return change.place not in self._lost and self.is_settled(change)

    def is_settled(self, change: Change) -> bool:
        """Whether the second run left alone what the first one wrote."""
        if self.error is not None and not self.met_dead_tracer:
            return False
        return not any(_goes_on(other, change) for other in self.still)

    def late(self) -> list[Change]:
        """What the second run wrote where the first one did not."""
        return [each for each in self.still if not any(_goes_on(each, first) for first in self.changes)]

    def lost(self) -> list[Change]:
        """The writes of both runs that a compiled call would not make."""
        return [*(change for change in self.changes if not self.is_memo(change)), *self.late()]

    def empty_caches(self) -> tuple[str, Change | None]:
        """Empties the caches that the first run filled: one of them may hold its tracer.

        Returns:
          Where the tracer lies, for a person, and the change of that cache, None where there is none.
        """
        caches = [each for each in self.changes if isinstance(each.holder.reader, CacheSlots)]
        for each in caches:
            each.holder.value.cache_clear()
        if not caches:
            return "a place that was not seen", None
        return f"the cache of {caches[0].path}", caches[0]


_ALWAYS_LOST = (IteratorSlots, RandomSlots)


def _goes_on(later: Change, first: Change) -> bool:
    """Whether a change of the second run continues one of the first: the slot, or new keys beside it."""
    grows = first.before is ABSENT and later.before is ABSENT and later.label and later.label[0] == "key"
    if grows and later.holder.key == first.holder.key:
        return True
    return later.place == first.place or lies_in(later.path, first.path)
