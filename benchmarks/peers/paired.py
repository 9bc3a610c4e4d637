"""A side, and another one beside it in the same process: what differs from process to process cancels."""

from benchmarks import statistics
from benchmarks.worker import load

TIMES, LOW, HIGH = "times the other in one process", "from", "to"


class Paired:
    """Runs both in turn and tells the seconds of the first, and the ratio of the two with its interval.

    Args:
      settings: of both.
      side: the factory of the first side, and its options.
      other: those of the other one.
    """

    def __init__(self, settings, *, side, other):
        self.both = [load(factory)(settings, **options) for factory, options in (side, other)]
        self.seconds, self.num_rounds = ([], []), 0
        self.facts = dict(getattr(self.both[0], "facts", {}))

    def learn(self, amount):
        """Both learn."""
        for each in self.both:
            getattr(each, "learn", each.run)(amount)

    def run(self, amount):
        """One round of each, the other one first in every second round; the first round is not counted."""
        self.num_rounds += 1
        order = (0, 1) if self.num_rounds % 2 else (1, 0)
        told = {place: self.both[place].run(amount) for place in order}
        if self.num_rounds > 1:
            for place, seconds in enumerate(self.seconds):
                seconds.append(told[place]["seconds"])
            ratio = statistics.ratio(*self.seconds)
            self.facts |= {TIMES: ratio.median, LOW: ratio.low, HIGH: ratio.high}
        return {"seconds": told[0]["seconds"], "facts": self.facts}

    def scores(self):
        """Those of the first."""
        return self.both[0].scores()
