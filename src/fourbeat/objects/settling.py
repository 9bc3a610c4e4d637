"""What a second run says about the writes of a first one: which go on, and which were a memo."""

import dataclasses
from collections.abc import Sequence

import jax

from fourbeat.objects.comparing import ABSENT, holds_tracer
from fourbeat.objects.families import lies_in
from fourbeat.objects.slots import CacheSlots, IteratorSlots, RandomSlots
from fourbeat.objects.snapshot import Change


@dataclasses.dataclass
class SecondRun:
    """A run that found what the first one had left.

    Attributes:
      still: what it wrote.
      error: what it raised, or None.
      met_dead_tracer: whether it met a tracer of the first run.
    """

    still: Sequence[Change]
    error: Exception | None
    met_dead_tracer: bool = False

    def __post_init__(self):
        self.met_dead_tracer |= isinstance(self.error, jax.errors.UnexpectedTracerError)

    def settled(self, change: Change) -> bool:
        """Whether it left alone what the first run wrote."""
        if self.error is not None and not self.met_dead_tracer:
            return False
        return not any(goes_on(other, change) for other in self.still)

    def may_be_memo(self, change: Change) -> bool:
        """Whether a write settled in a slot that can be tried with another value."""
        untried = (CacheSlots, RandomSlots, IteratorSlots)
        is_tried = not holds_tracer(change.after) and not isinstance(change.holder.reader, untried)
        return is_tried and self.settled(change)


def goes_on(later: Change, first: Change) -> bool:
    """Whether a change of the second run continues one of the first: the slot, or new keys beside it."""
    grows = first.before is ABSENT and later.before is ABSENT and later.label and later.label[0] == "key"
    if grows and later.holder.key == first.holder.key:
        return True
    return later.place == first.place or lies_in(later.path, first.path)
