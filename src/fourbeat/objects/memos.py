"""Which writes are memos: a second run finds a memo's value, and keeps another value put in its place."""

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
    """Runs a function again: from the values that its first run left, and with other values in the slots.

    A compiled call loses every write that is no memo. The writes of these runs are not undone.

    Args:
      changes: the writes of the first run.
      between: the snapshot that the first run left.
      run: traces the function again and gives the arrays that the program captured; may raise.
      known: ids of the tracers that the function may capture: those of traces around both runs.
      tries: the changes whose slots may hold another value for a run.

    Attributes:
      still: the writes of the second run.
      error: the error that the second run raised, or None.
      met_dead_tracer: whether the second run met a tracer of the first run.
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
        except Exception as error:  # the first run worked, so its writes caused this error
            self.error = error
        self.still = between.changes()
        self.met_dead_tracer = isinstance(self.error, jax.errors.UnexpectedTracerError) or any(
            isinstance(each, Tracer) and id(each) not in known for each in captured
        )
        alike = [c for c in changes if not isinstance(c.holder.reader, MOVED_BY_USE) and self.is_memo(c)]
        self._lost |= overwritten([change for change in alike if tries(change)], run)

    def is_memo(self, change: Change) -> bool:
        """Whether a write of the first run is a memo: a compiled call need not repeat it."""
        return change.place not in self._lost and self.is_settled(change)

    def is_settled(self, change: Change) -> bool:
        """Whether the second run did not change what the first run wrote."""
        if self.error is not None and not self.met_dead_tracer:
            return False
        return not any(_goes_on(other, change) for other in self.still)

    def late(self) -> list[Change]:
        """The writes of the second run to slots that the first run did not write."""
        return [each for each in self.still if not any(_goes_on(each, first) for first in self.changes)]

    def lost(self) -> list[Change]:
        """The writes of both runs that a compiled call would not make."""
        return [*(change for change in self.changes if not self.is_memo(change)), *self.late()]

    def empty_caches(self) -> tuple[str, Change | None]:
        """Empties the caches that the first run filled: one of them may hold its tracer.

        Returns:
          The place of the tracer, for a person, and the change of that cache, or None if there is none.
        """
        caches = [each for each in self.changes if isinstance(each.holder.reader, CacheSlots)]
        for each in caches:
            each.holder.value.cache_clear()
        if not caches:
            return "a place that was not seen", None
        return f"the cache of {caches[0].path}", caches[0]


_ALWAYS_LOST = (IteratorSlots, RandomSlots)


def _goes_on(later: Change, first: Change) -> bool:
    """Whether a change of the second run continues one of the first, in its slot or in new keys beside it."""
    grows = first.before is ABSENT and later.before is ABSENT and later.label and later.label[0] == "key"
    if grows and later.holder.key == first.holder.key:
        return True
    return later.place == first.place or lies_in(later.path, first.path)
