"""Marks: the counts at which durations fall, worked out ahead of the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

from fourbeat.looping.durations import Duration, Joinable, Joined, parts_of
from fourbeat.looping.indexed_sources import Indexed, first_step_with
from fourbeat.looping.stream_sources import StreamSource

Count: TypeAlias = int | float | Fraction

# What can be counted; each has its own next due count.
STEPS, EXAMPLES, EPOCHS, SECONDS = range(4)
UNTIL: Final = object()  # falls where the loop ends
NOTHING: Final[frozenset[object]] = frozenset()


@dataclass(slots=True)
class _Alarm:
    """One duration of a mark: what it counts, and the count at which it next falls."""

    mark: object
    counter: int
    next_due: Callable[[Count], Count]  # takes a count, gives the first later count at which this falls
    due: Count = math.inf


class Plan:
    """When the marks of a loop fall, and its end.

    Attributes:
      marks: the marks passed by the user.
      due: the next count at which a mark falls, for each of STEPS, EXAMPLES, EPOCHS and SECONDS.
      is_timed: whether the clock must be read.
      of_passes: the marks that may fall at the end of a pass over a stream; UNTIL is one if the loop may end.
      is_length_needed: whether step numbers were computed from the length of an epoch of a stream.
    """

    def __init__(
        self, marks: Iterable[Joinable], until: Joinable, source: Indexed | StreamSource, start: int
    ):
        self.marks = frozenset(marks)
        self.is_length_needed = False
        self._until = until
        self._source = source
        self._alarms = [
            self._alarm(mark, part)
            for mark in sorted(self.marks, key=repr)
            for part in parts_of(mark)
            if isinstance(part, Duration)
        ]
        self._alarms += [self._alarm(UNTIL, limit) for limit in self._limits()]
        self.due: list[Count] = [math.inf] * 4
        self.is_timed = any(alarm.counter == SECONDS for alarm in self._alarms)
        self.of_passes = frozenset(alarm.mark for alarm in self._alarms if alarm.counter == EPOCHS)
        if isinstance(source, StreamSource) and source.is_single_pass:
            self.of_passes |= {UNTIL}
        self.start_counting(STEPS, start)

    def start_counting(self, counter: int, count: int) -> bool:
        """Sets the alarms of one counter. Returns whether the loop's end is reached already."""
        for alarm in self._alarms:
            if alarm.counter == counter:
                alarm.due = alarm.next_due(count)
        self._look_ahead(counter)
        return self.due[counter] <= count

    def fall(self, counter: int, count: Count) -> frozenset[object]:
        """The marks that fall at a count that has come due; UNTIL is among them at the end."""
        fallen = set()
        for alarm in self._alarms:
            if alarm.counter == counter and alarm.due <= count:
                fallen.add(alarm.mark)
                alarm.due = alarm.next_due(count)
        self._look_ahead(counter)
        return frozenset(fallen)

    def _look_ahead(self, counter: int) -> None:
        self.due[counter] = min(
            (alarm.due for alarm in self._alarms if alarm.counter == counter), default=math.inf
        )

    def _limits(self) -> list[Duration]:
        return [part for part in parts_of(self._until) if isinstance(part, Duration)]

    def _alarm(self, mark: object, part: Duration) -> _Alarm:
        period, unit, source = part.exact, part.unit, self._source
        if unit == "fraction":
            period, unit = self._share(mark, part)
        if unit == "epochs" and (length := self._epoch_length(part, period)):
            period, unit = period * length, "steps"
        # The end, once reached, stays due: a loop that starts beyond it gives nothing.
        following = _once(period) if mark is UNTIL else _next_of(period, part.repeats)
        if unit == "steps":
            return _Alarm(mark, STEPS, lambda step: _ceil(following(step)))
        if unit == "examples" and not isinstance(source, StreamSource):
            return _Alarm(mark, STEPS, lambda step: _step_of_examples(source, following, step))
        if unit == "seconds":
            seconds = float(part.amount)
            return _Alarm(mark, SECONDS, _after(seconds, part.repeats and mark is not UNTIL))
        return _Alarm(mark, {"examples": EXAMPLES, "epochs": EPOCHS}[unit], following)

    def _epoch_length(self, part: Duration, epochs: Fraction) -> int | None:
        """The number of steps of an epoch, if epochs can be, or must be, counted in steps."""
        source = self._source
        if not isinstance(source, StreamSource):
            return source.steps_per_epoch
        if epochs.denominator == 1:
            return None
        if source.steps_per_epoch is None:
            whole = "" if part.unit == "epochs" else f", which is {float(epochs)} epochs,"
            raise ValueError(
                f"cannot place {part!r}{whole} in a stream of unknown length: a part of an epoch "
                "needs its number of steps. Give batches a __len__, or use whole epochs, steps or "
                "examples."
            )
        self.is_length_needed = True
        return source.steps_per_epoch

    def _share(self, mark: object, part: Duration) -> tuple[Fraction, str]:
        """The unit and the amount that a fraction of the whole loop stands for."""
        limits = [limit for limit in self._limits() if limit.unit != "seconds"]
        if mark is UNTIL or any(limit.unit == "fraction" for limit in limits):
            raise ValueError(
                f"until={self._until!r} is a fraction of the length that until itself sets. End "
                "the loop with at(steps=), at(examples=) or at(epochs=)."
            )
        if not limits:
            raise ValueError(
                f"cannot place {part!r}: until={self._until!r} sets no length that can be "
                "foreseen. Add a limit, such as until=at(epochs=5) | stop_signal()."
            )
        length = self.last_step
        if length is not None:
            self.is_length_needed |= isinstance(self._source, StreamSource) and any(
                limit.unit == "epochs" for limit in limits
            )
            return part.exact * length, "steps"
        if len(limits) > 1:
            raise ValueError(
                f"cannot place {part!r}: which limit of until={self._until!r} comes first is "
                "unknown in a stream of unknown length. Give batches a __len__, or use a single "
                "limit."
            )
        return part.exact * limits[0].exact, limits[0].unit

    @property
    def has_limit(self) -> bool:
        """Whether `until` holds more than stop signals."""
        return bool(self._limits())

    @property
    def last_step(self) -> int | None:
        """The step at which the first limit is reached; None where it cannot be foreseen."""
        steps = [self._steps_of(limit) for limit in self._limits() if limit.unit != "seconds"]
        known = [step for step in steps if step is not None]
        return min(known) if known and len(known) == len(steps) else None

    @property
    def end_s(self) -> float:
        """The seconds after which `until` ends the loop; infinite where no clock does."""
        return min(
            (float(limit.amount) for limit in self._limits() if limit.unit == "seconds"), default=math.inf
        )

    def _steps_of(self, limit: Duration) -> int | None:
        source = self._source
        if limit.unit == "steps":
            return int(limit.amount)
        if limit.unit == "epochs" and source.steps_per_epoch is not None:
            return math.ceil(limit.exact * source.steps_per_epoch)
        if limit.unit == "examples" and not isinstance(source, StreamSource):
            step = first_step_with(source.examples, int(limit.amount), source.steps_per_epoch, 0)
            return None if step == math.inf else int(step)
        return None


def check_marks(marks: Iterable[Joinable]) -> frozenset[Joinable]:
    """The marks as a set.

    Raises:
      TypeError: `marks` is a single one, or one of them is not made of `every` and `at`.
    """
    if isinstance(marks, Joinable):
        raise TypeError(f"marks takes a list: marks=[{marks!r}].")
    marks = list(marks)
    for mark in marks:
        if not isinstance(mark, Duration | Joined):
            raise TypeError(
                f"marks holds {mark!r}, which is no mark. Marks are every(...) and at(...), and "
                "several joined with |; a stop signal belongs in until."
            )
        if not all(isinstance(part, Duration) for part in parts_of(mark)):
            raise TypeError(
                f"marks holds {mark!r}, with a stop signal, which cannot be foreseen: "
                "put it into until, and ask the loop for .interrupted."
            )
    return frozenset(marks)


def _next_of(period: Fraction, repeats: bool) -> Callable[[Count], Count]:
    whole = int(period) if period.denominator == 1 else period
    if repeats:
        return lambda count: (count // whole + 1) * whole
    return lambda count: whole if count < whole else math.inf


def _once(period: Fraction) -> Callable[[Count], Count]:
    whole = math.ceil(period)  # counts are whole, and comparing a Fraction at each step is slow
    return lambda count: whole


def _after(seconds: float, repeats: bool) -> Callable[[Count], Count]:
    if repeats:
        return lambda elapsed: elapsed + seconds
    return lambda elapsed: seconds if elapsed < seconds else math.inf


def _ceil(count: Count) -> Count:
    return count if count == math.inf else math.ceil(count)


def _step_of_examples(source: Indexed, following: Callable[[Count], Count], step: Count) -> Count:
    seen = source.examples(int(step))
    amount = following(seen)
    if amount == math.inf:
        return amount
    return first_step_with(
        source.examples,
        math.ceil(amount),
        source.steps_per_epoch,
        int(step) if amount > seen else 0,
    )
