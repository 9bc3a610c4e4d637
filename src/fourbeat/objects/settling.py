"""A second run shows which writes of the first one are made again, and which were memos."""

import dataclasses
from collections.abc import Sequence

import jax

from fourbeat.objects.comparing import ABSENT, holds_tracer
from fourbeat.objects.slots import MOVED_BY_USE
from fourbeat.objects.snapshot import Change
from fourbeat.trees.paths import lies_in


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
        return not any(_goes_on(other, change) for other in self.still)

    def late(self, changes: Sequence[Change]) -> list[Change]:
        """What it wrote where the first run did not."""
        return [each for each in self.still if not any(_goes_on(each, first) for first in changes)]

    def may_be_memo(self, change: Change) -> bool:
        """Whether the second run left a write alone, in a slot that can be tried with another value."""
        is_tried = not holds_tracer(change.after) and not isinstance(change.holder.reader, MOVED_BY_USE)
        return is_tried and self.settled(change)


def _goes_on(later: Change, first: Change) -> bool:
    """Whether a change of the second run continues one of the first: the slot, or new keys beside it."""
    grows = first.before is ABSENT and later.before is ABSENT and later.label and later.label[0] == "key"
    if grows and later.holder.key == first.holder.key:
        return True
    return later.place == first.place or lies_in(later.path, first.path)
