"""The loop: batches in order, with the marks that fall on each step and a foreseeable end."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from numbers import Integral
from signal import Signals
from typing import Any, TypeAlias

from fourbeat.looping.durations import Joinable, parts_of
from fourbeat.looping.interrupts import Interrupts
from fourbeat.looping.marks import (
    EPOCHS,
    EXAMPLES,
    NOTHING,
    SECONDS,
    STEPS,
    UNTIL,
    Plan,
    check_marks,
)
from fourbeat.looping.signals import StopSignal
from fourbeat.looping.sources import Indexed, StreamSource, source_of, stack_on_device
from fourbeat.looping.tick import Tick

# A turn before the clock is looked at: batch, step, number of steps, epoch, examples, fallen marks.
Turn: TypeAlias = tuple[Any, int, int, int, int | Callable[[int], int], frozenset[object]]


def loop(
    batches: Any,
    *,
    until: Joinable,
    start: Any = 0,
    marks: Iterable[Joinable] = (),
    steps_per_call: int = 1,
) -> Loop:
    """The ticks of a training loop from step `start` on.

    A loop started at any step gives the same batches and the same marks as one that was never
    stopped; only what is counted in seconds differs. Nothing is copied from the device.

    Without a stop signal in `until`, Ctrl-C raises `KeyboardInterrupt` once the body of the present tick has
    run, never within a step: the state that you hold is whole, and of step `tick.step`. A second one
    raises at once.

    Args:
      batches: `Batches` of `fourbeat.data`; or a list of dicts of arrays; or any iterable of such
        dicts. An iterable makes a pass an epoch, and an iterator a single pass, which then ends
        the loop. What is not `Batches` is copied to the device as it is read, so a buffer may be
        used again; `jax.Array`s pass as they are. An iterable is read one batch ahead within its
        pass, and each new pass begins when its first batch is wanted.
      until: `every(...)`, `at(...)`, `stop_signal()` or several joined with `|`; the loop ends
        after the tick in which one of them falls for the first time, counted from step 0. A loop
        that starts there, or beyond, gives no tick.
      start: steps already done, an int or an int32 scalar such as `state.step`; converted once.
        Plain iterables are read and dropped up to there, which costs what reading costs; a list is
        not, though counting its examples reads the batches before, each once.
      marks: the `every(...)` and `at(...)` that the loop's body asks for with `mark in tick`. What
        lies at `start` or before has fallen already.
      steps_per_call: how many batches at most a tick holds. Above 1 each tick's batch is a `Block`
        of that capacity, which ends at marks and the loop's end (at the end of an epoch where a mark
        asks, or the data is a plain iterable), and before a batch of another shape. The clock and the
        signals are looked at between ticks only.

    Returns:
      An iterable, good for one pass.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `batches` is empty, or a number is out of range, or a fraction has no length that
        it could be of.
      RuntimeError: once iterating starts, where `until` catches signals and this is not the main
        thread.

    >>> import numpy as np
    >>> from fourbeat.looping.durations import at, every
    >>> log = every(steps=2)
    >>> for tick in loop([{"x": np.zeros((8, 3))}] * 3, until=at(epochs=1), marks=[log]):
    ...     print(tick.step, tick.examples, tick.epoch, log in tick, tick.is_last)
    1 8 0 False False
    2 16 0 True False
    3 24 1 False True
    """
    return Loop(batches, until, start, marks, steps_per_call)


class Loop:
    """Ticks to iterate over once: built by `loop`.

    Attributes:
      step: steps done once the present tick is applied; `start` before the first.
      start: the step that it starts from.
      steps_per_call: how many steps at most a tick holds.
    """

    def __init__(
        self,
        batches: Any,
        until: Joinable,
        start: Any,
        marks: Iterable[Joinable],
        steps_per_call: int,
    ):
        self.start = self.step = _checked_start(start)
        self.steps_per_call = _checked_steps_per_call(steps_per_call)
        self._until = _checked_until(until)
        self._stops = [part for part in parts_of(until) if isinstance(part, StopSignal)]
        self._source = source_of(batches)
        self._plan = Plan(check_marks(marks), until, self._source, self.start)
        self._is_begun = False

    @property
    def interrupted(self) -> bool:
        """Whether a stop was asked for, by a signal or by `.request()`."""
        return any(stop.is_requested for stop in self._stops)

    @property
    def signal(self) -> Signals | None:
        """Which signal asked for the stop; None where none came."""
        return next((stop.signal for stop in self._stops if stop.signal is not None), None)

    @property
    def last_step(self) -> int | None:
        """The step that ends the loop, as far as `until` and the data's length tell."""
        return self._plan.last_step

    def __iter__(self) -> Iterator[Tick]:
        """The ticks; handlers of a stop signal stand while they are iterated."""
        if self._is_begun:
            raise RuntimeError(
                f"{self!r} was iterated before, and its data may be used up. Build a new one with "
                "loop(..., start=state.step)."
            )
        self._is_begun = True
        return self._ticks()

    def interruptible(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, up to and with the one during which a stop was asked for.

        For an evaluation inside the loop, which then ends early with scores that are not whole: look at
        `interrupted` before you use them.

        >>> import numpy as np
        >>> from fourbeat.looping import at, stop_signal
        >>> stop = stop_signal(install=False)
        >>> run = loop([{"x": np.zeros(1)}], until=at(steps=9) | stop)
        >>> for batch in run.interruptible([1, 2, 3]):
        ...     print(batch)
        ...     if batch == 2:
        ...         stop.request()
        1
        2
        """
        for batch in batches:
            yield batch
            if self.interrupted:
                return

    def _ticks(self) -> Iterator[Tick]:
        with ExitStack() as stack:
            for stop in self._stops:
                stack.enter_context(stop.listening())
            interrupts = stack.enter_context(Interrupts())
            if self._plan.due[STEPS] <= self.start or self.interrupted:
                return
            plan, marks = self._plan, self._plan.marks
            begin_s = time.monotonic()
            plan.start_counting(SECONDS, 0)
            for batch, step, num_steps, epoch, examples, fallen in self._turns():
                if plan.is_timed:
                    elapsed_s = time.monotonic() - begin_s
                    if elapsed_s >= plan.due[SECONDS]:
                        fallen = fallen | plan.fall(SECONDS, elapsed_s)
                if self._stops and self.interrupted:  # it came while the batch was read
                    return
                is_last = UNTIL in fallen
                self.step = step
                interrupts.begin_body()
                yield Tick(batch, step, num_steps, epoch, examples, is_last, fallen, marks)
                interrupts.end_body()
                if is_last or (self._stops and self.interrupted):
                    return

    def _turns(self) -> Iterator[Turn]:
        if isinstance(self._source, StreamSource):
            return _stream_turns(self._source, self.start, self._plan, self.steps_per_call)
        return _indexed_turns(self._source, self.start, self._plan, self.steps_per_call)

    def __repr__(self) -> str:
        return f"loop(step={self.step}, until={self._until!r}, steps_per_call={self.steps_per_call})"


def _indexed_turns(source: Indexed, start: int, plan: Plan, size: int) -> Iterator[Turn]:
    step, due, epoch_length, num_steps = start, plan.due, source.steps_per_epoch, 1
    while True:
        if size == 1:
            batch = source.batch(step)
        else:
            batch, num_steps = source.block(step, int(min(size, due[STEPS] - step)), size)
        step += num_steps
        fallen = plan.fall(STEPS, step) if step >= due[STEPS] else NOTHING
        yield batch, step, num_steps, step // epoch_length, source.examples, fallen


def _stream_turns(source: StreamSource, start: int, plan: Plan, size: int) -> Iterator[Turn]:
    try:
        source.skip(start, on_device=size == 1, is_length_needed=plan.is_length_needed)
        is_done = plan.start_counting(EXAMPLES, source.examples)
        if plan.start_counting(EPOCHS, source.epoch) or is_done:
            return
        while not source.is_exhausted:
            batch, num_steps = source.advance(), 1
            fallen = _fallen(source, plan)
            if size > 1:
                batches = [batch]
                while not fallen and len(batches) < size and source.is_next_like(batch):
                    batches.append(source.advance())
                    fallen = _fallen(source, plan)
                batch, num_steps = stack_on_device(batches, size), len(batches)
            yield batch, source.step, num_steps, source.epoch, source.examples, fallen
    finally:
        source.release()


def _fallen(source: StreamSource, plan: Plan) -> frozenset[object]:
    due, fallen = plan.due, NOTHING
    if source.step >= due[STEPS]:
        fallen |= plan.fall(STEPS, source.step)
    if source.examples >= due[EXAMPLES]:
        fallen |= plan.fall(EXAMPLES, source.examples)
    if source.epoch >= due[EPOCHS]:
        fallen |= plan.fall(EPOCHS, source.epoch)
    return fallen | {UNTIL} if source.is_exhausted else fallen


def _checked_until(until: Any) -> Joinable:
    if isinstance(until, Joinable):
        return until
    raise TypeError(
        f"until={until!r} is no limit. Use at(epochs=5), at(steps=10_000), stop_signal(), or "
        "several joined with |."
    )


def _checked_start(start: Any) -> int:
    try:
        step = operator.index(start)
    except TypeError:
        step = -1
    if step < 0 or isinstance(start, bool):
        raise ValueError(
            f"start={start!r} is no number of steps. Pass an integer of at least 0, or state.step."
        )
    return step


def _checked_steps_per_call(steps_per_call: Any) -> int:
    if isinstance(steps_per_call, bool) or not isinstance(steps_per_call, Integral):
        raise TypeError(
            f"steps_per_call={steps_per_call!r} is a {type(steps_per_call).__name__}; it takes an int."
        )
    if steps_per_call < 1:
        raise ValueError(f"steps_per_call={steps_per_call} must be at least 1.")
    return int(steps_per_call)
