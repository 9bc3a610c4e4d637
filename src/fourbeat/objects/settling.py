"""A second run shows which writes of the first one are made again, and which were memos."""

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import jax
from jax.core import Tracer

from fourbeat.objects.comparing import ABSENT, holds_tracer
from fourbeat.objects.slots import MOVED_BY_USE, CacheSlots
from fourbeat.objects.snapshot import Change, Snapshot
from fourbeat.trees.paths import lies_in


class SecondRun:
    """Runs a function once more, from what its first run has left.

    Args:
      changes: what the first run wrote.
      between: what the function reaches, as the first run left it.
      run: traces the function again and gives the arrays that the program captured; may raise.
      known: ids of the tracers that it may capture, those of traces around both runs.

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
        known: Container[int],
    ):
        self.changes = changes
        self.run = run
        self.error: Exception | None = None
        captured: Iterable[Any] = ()
        try:
            captured = run()
        except Exception as error:  # the first run worked, so what this one raises follows from it
            self.error = error
        self.still = between.changes()
        self.met_dead_tracer = isinstance(self.error, jax.errors.UnexpectedTracerError) or any(
            isinstance(each, Tracer) and id(each) not in known for each in captured
        )

    def settled(self, change: Change) -> bool:
        """Whether it left alone what the first run wrote."""
        if self.error is not None and not self.met_dead_tracer:
            return False
        return not any(_goes_on(other, change) for other in self.still)

    def late(self) -> list[Change]:
        """What it wrote where the first run did not."""
        return [each for each in self.still if not any(_goes_on(each, first) for first in self.changes)]

    def may_be_memo(self, change: Change) -> bool:
        """Whether it left a write alone, in a slot that can be tried with another value."""
        is_tried = not holds_tracer(change.after) and not isinstance(change.holder.reader, MOVED_BY_USE)
        return is_tried and self.settled(change)

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


def _goes_on(later: Change, first: Change) -> bool:
    """Whether a change of the second run continues one of the first: the slot, or new keys beside it."""
    grows = first.before is ABSENT and later.before is ABSENT and later.label and later.label[0] == "key"
    if grows and later.holder.key == first.holder.key:
        return True
    return later.place == first.place or lies_in(later.path, first.path)
