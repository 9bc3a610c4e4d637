"""A clock that a test feeds."""


class Clock:
    """In the place of the module `time`: it goes on where a test says so."""

    now_s = 0.0

    def monotonic(self):
        return self.now_s

    perf_counter = monotonic

    def passes(self, seconds):
        self.now_s += seconds
