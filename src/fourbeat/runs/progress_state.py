"""Where a loop stands: its step, its rates, the time left, the newest values, what is being compiled."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fourbeat.compiling.compilation_monitor import CompilationMonitor
from fourbeat.types import Object

_WINDOW_S = 15.0  # the rates are measured over this time
_LEAST_WAIT = 0.01  # the least share of waiting time that is shown
_LOOK_S = 0.25  # time between two readings of the clock's step


class ProgressState:
    """What a display shows. The loop's thread writes it; a display may read it from another.

    Args:
      step: the number of steps done before the loop.
      last_step: the step at which the loop ends, or None if it is not known.
      underway: knows what is being compiled.
      waited_s: tells the seconds that the loop has waited for data so far.

    Attributes:
      step: the present step; after the loop, the last step.
      values: the newest values that were shown, floats by name.
    """

    def __init__(
        self,
        step: int,
        last_step: int | None,
        underway: CompilationMonitor,
        waited_s: Callable[[], float] = lambda: 0.0,
    ):
        self.step = self.start = step
        self.last_step = last_step
        self.underway = underway
        self.values: dict[str, float] = {}
        self._waited_s = waited_s
        self._begin_s = time.monotonic()
        self._newest: tuple[float, Any] | None = None  # from a tick that was seen but not measured yet
        self._looks: deque[tuple[float, int, int, float]] = deque(maxlen=int(_WINDOW_S / _LOOK_S))

    def begin(self) -> None:
        """Starts the clock."""
        self._begin_s = time.monotonic()

    def reach(self, tick: Object) -> None:
        """Takes note of a tick whose body begins."""
        self.step = tick.step

    def see(self, tick: Object) -> None:
        """Takes note of a tick whose body is done."""
        self._newest = time.monotonic(), tick
        # the rate counts from the end of the first tick, because that tick includes compilation
        if not self._looks or self._newest[0] - self._looks[-1][0] >= _LOOK_S:
            self._look()

    def end(self) -> None:
        """Takes note of the end: the last rates are those up to the last tick."""
        if self._newest is not None:
            self._look()

    def _look(self) -> None:
        assert self._newest is not None
        (now_s, tick), self._newest = self._newest, None
        try:
            examples = tick.examples
        except ValueError:  # the batches do not tell how many examples they have
            examples = 0
        self._looks.append((now_s, tick.step, examples, self._waited_s()))

    def show(self, values: dict[str, Any]) -> None:
        """Takes note of values. It reads those that are one number from the device now."""
        numbers = jax.device_get({name: value for name, value in values.items() if np.ndim(value) == 0})
        self.values = {name: float(numbers[name]) for name in values if name in numbers}

    def rates(self) -> tuple[float, float] | None:
        """Steps and examples a second; None before they can be known."""
        rates = self._rates()
        return None if rates is None else rates[:2]

    def _rates(self) -> tuple[float, float, float] | None:
        """Steps, examples and seconds of waiting for data, each a second."""
        looks = list(self._looks)
        if len(looks) < 2 or looks[-1][0] == looks[0][0]:
            return None
        (begin_s, *begin), (end_s, *end) = looks[0], looks[-1]
        steps, examples, waited = ((to - of) / (end_s - begin_s) for of, to in zip(begin, end, strict=True))
        return steps, examples, waited

    def left_s(self) -> float | None:
        """Seconds until the last step at the present rate; None if they are not known."""
        rates = self.rates()
        return None if rates is None or self.last_step is None else (self.last_step - self.step) / rates[0]

    def elapsed_s(self) -> float:
        """Seconds since the loop began."""
        return time.monotonic() - self._begin_s

    def compiling(self) -> tuple[str, float] | None:
        """What is being compiled, and for how many seconds so far; None where nothing is."""
        now = self.underway.now
        return None if now is None else (now.name, time.monotonic() - now.begin_s)

    def steps_in_words(self) -> str:
        """`step 1000/5000`."""
        return f"step {self.step}" if self.last_step is None else f"step {self.step}/{self.last_step}"

    def rates_in_words(self) -> list[str]:
        """`140.2 steps/s`, `4,486 examples/s`, `12 % waiting for data`."""
        rates = self._rates()
        if rates is None:
            return []
        steps, examples, waited = rates
        words = [f"{steps:,.1f} steps/s"]
        if examples:
            words.append(f"{examples:,.0f} examples/s")
        if waited >= _LEAST_WAIT:
            words.append(f"{min(waited, 1):.0%} waiting for data".replace("%", " %"))
        return words

    def values_in_words(self) -> list[str]:
        """`train loss 0.1250`."""
        return [f"{name.replace('_', ' ')} {value:.4f}" for name, value in self.values.items()]


def clock(seconds: float) -> str:
    """Seconds as `0:28`, `12:05`, `1:02:03`.

    >>> clock(28), clock(725.4), clock(3723)
    ('0:28', '12:05', '1:02:03')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
