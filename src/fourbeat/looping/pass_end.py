"""Whether a pass over a plain iterable ends with a tick; the loop finds out when its body asks."""

from __future__ import annotations

from fourbeat.looping.marks import EPOCHS, NOTHING, UNTIL, Plan
from fourbeat.looping.stream_sources import StreamSource


class PassEnd:
    """The end of a pass, as one tick sees it. The tick looks for it once, by reading the next batch.

    Attributes:
      is_known: whether the tick has looked for it.
      is_here: whether the pass ends with the tick; False until known.
      is_limit: whether the loop ends here because its limit is reached; False until known.
      fallen: the marks that fall at the end of the pass, and UNTIL if the loop ends; empty until known.
    """

    __slots__ = ("_plan", "_source", "fallen", "is_here", "is_known", "is_limit")

    def __init__(self, source: StreamSource, plan: Plan):
        self._source, self._plan = source, plan
        self.is_known = self.is_here = self.is_limit = False
        self.fallen: frozenset[object] = NOTHING

    def look(self, *, copies: bool = True) -> PassEnd:
        """Reads the next batch, if that was not done yet; `copies` is as in `StreamSource.look`."""
        if not self.is_known:
            source, plan, before = self._source, self._plan, self._source.epoch
            source.look(copies=copies)
            self.is_known, self.is_here = True, source.epoch > before
            if self.is_here and source.epoch >= plan.due[EPOCHS]:
                self.fallen = plan.fall(EPOCHS, source.epoch)
            self.is_limit = UNTIL in self.fallen
            if source.is_exhausted:
                self.fallen |= {UNTIL}
        return self

    def falls(self, mark: object) -> bool:
        """Whether a mark, or the loop's end, falls with the pass. It reads only if that is possible."""
        return mark in self._plan.of_passes and mark in self.look().fallen
