"""The loop: batches in order, the marks that fall on each step, and the end, known ahead if possible."""

from __future__ import annotations

import itertools
import math
import operator
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from numbers import Integral
from signal import Signals
from typing import Any, TypeAlias

from jax.sharding import Mesh

from fourbeat.compiling.blocks import NO_STEPS
from fourbeat.data.streams.exact_ways import exact_way
from fourbeat.data.streams.stream import Stream, cursor_of
from fourbeat.distributed.joining import check_joined
from fourbeat.distributed.runtime import num_processes
from fourbeat.distributed.watching import at_step
from fourbeat.looping.block_filling import BlockFilling
from fourbeat.looping.durations import Joinable, parts_of
from fourbeat.looping.indexed_sources import Indexed, StepSource
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
from fourbeat.looping.meeting_points import Meeting
from fourbeat.looping.pass_end import PassEnd
from fourbeat.looping.signals import StopSignal
from fourbeat.looping.sources import source_of
from fourbeat.looping.stream_sources import PositionedSource, StreamSource
from fourbeat.looping.tick import Tick
from fourbeat.looping.warnings import (
    warn_of_early_end,
    warn_of_inexactness,
    warn_of_start_beyond_end,
)
from fourbeat.shard.process_passes import LaidOut, one_pass_over
from fourbeat.shard.process_rows import mesh_of_processes
from fourbeat.trees.articles import a_type
from fourbeat.trees.donation import raise_if_used_up
from fourbeat.types import BatchSource, Object, Scalar

# A turn before the clock is read: batch, step, number of steps, epoch, examples, fallen marks, and the
# object that tells whether a pass ends here.
Turn: TypeAlias = tuple[Any, int, int, int, int | Callable[[int], int], frozenset[object], PassEnd | None]


def loop(
    batches: BatchSource,
    *,
    until: Joinable,
    start: Scalar | None = None,
    marks: Iterable[Joinable] = (),
    steps_per_call: int = 1,
    unfinished: Iterable[Joinable] = (),
    mesh: Mesh | None = None,
) -> Loop:
    """The ticks of a training loop from step `start` on.

    A loop started at any step gives the same batches and the same marks as one that was never
    stopped; only marks in seconds differ. Nothing is copied from the device.

    Without a stop signal in `until`, Ctrl-C raises `KeyboardInterrupt` after the body of the present tick has
    run, never within a step: the state that you hold is whole, and it is that of step `tick.step`. A second
    Ctrl-C raises at once.

    With several processes each of them iterates the same loop. A stop that one of them is asked for, and a
    mark in seconds by the clock of process 0, fall on all of them at the same tick: the first that none has
    begun when they have agreed on it, which takes a few milliseconds. Nothing is exchanged until then. Marks
    in seconds fall so seldom that agreeing on them takes less than a hundredth of the time.

    Args:
      batches: `Batches` of `fourbeat.data`, or another `BatchesByStep`; or a list of dicts of arrays; or
        a `fourbeat.data.Stream`, whose next batch must be that of `start`; or any iterable of such dicts.
        For an iterable, one pass is an epoch; an iterator has a single pass, and its end ends the loop. Plain
        batches are copied when they are read, so you may reuse their buffers. You get read-only NumPy arrays
        in the types that JAX keeps, and a compiled step puts them on the device. `jax.Array`s are passed
        unchanged. The loop reads a batch of an iterable when its tick begins, or when you ask the tick before
        whether the pass ends there (`tick.epoch`, `tick.is_last`, a mark in epochs). A generator may
        therefore use the state that the last step gave. A new pass begins when the loop needs its first
        batch.
      until: `every(...)`, `at(...)`, `stop_signal()` or several joined with `|`; the loop ends
        after the tick in which one of them falls for the first time, counted from step 0. A loop
        that starts there, or later, gives no tick; a later start gives a `StartBeyondEndWarning`. An iterator
        that ends before the limit gives a `fourbeat.looping.EndedEarlyWarning`.
      start: steps already done, an int or an int32 scalar such as `state.step`; converted once. Without it
        the loop begins at step 0.
        Batches of a plain iterable before `start` are read and dropped. This takes the time of reading them,
        and is exact only if the iterable gives the same batches in each process. A loop that is given a
        `start` says so at its first step already, by a `fourbeat.looping.InexactResumeWarning`. A list
        starts at `start` directly, but counting its examples reads each batch before it once.
      marks: the `every(...)` and `at(...)` that the loop's body asks for with `mark in tick`. Marks
        at `start` or before it have fallen already.
      steps_per_call: how many batches at most a tick holds. If it is above 1, each tick's batch is a
        `Block` of that capacity. A block ends at marks, at the loop's end, and before a batch of another
        shape; it ends at the end of an epoch if a mark asks for that or the data is a plain iterable. The
        loop reads all batches of a block before its first step, so batches that depend on the state need 1.
        It looks at the clock and the signals between ticks only.
      unfinished: the marks that fell at `start` and whose part of the body was cut short, from
        `loop.unfinished` of the loop before. The first tick then has no step: its `num_steps` is 0, its
        batch is empty, and these marks fall at it. A step of `fourbeat.compile` returns the state unchanged
        for such a tick. Call any other step under `if tick.num_steps:`.
      mesh: for several processes that train together, the mesh of the step, whose rows each process reads for
        its own devices; by default that on which `start` lies. With one process it changes nothing.

    Returns:
      An iterable, good for one pass.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `batches` is empty, or a number is out of range, or there is a fraction
        but no length that it is a part of.
      RuntimeError: when iterating starts, if `until` catches signals and this is not the main
        thread.
      fourbeat.distributed.JoinError: a launcher has started several processes, and this one trains alone.
      fourbeat.distributed.PeerError: while iterating, if another process does not come, or begins another
        loop.

    >>> import numpy as np
    >>> from fourbeat.looping.durations import at, every
    >>> log = every(steps=2)
    >>> for tick in loop([{"x": np.zeros((8, 3))}] * 3, until=at(epochs=1), marks=[log]):
    ...     print(tick.step, tick.examples, tick.epoch, log in tick, tick.is_last)
    1 8 0 False False
    2 16 0 True False
    3 24 1 False True
    """
    built = Loop(batches, until, 0 if start is None else start, marks, steps_per_call, unfinished, mesh)
    if start is not None:  # it may go on one day
        built.warn_if_inexact(stacklevel=2)
    return built


class Loop:
    """Ticks to iterate over once: built by `loop`.

    Attributes:
      step: steps done once the present tick is applied; `start` before the first.
      start: the step that it starts from.
      steps_per_call: how many steps at most a tick holds.
    """

    def __init__(
        self,
        batches: BatchSource,
        until: Joinable,
        start: Scalar,
        marks: Iterable[Joinable],
        steps_per_call: int,
        unfinished: Iterable[Joinable] = (),
        mesh: Mesh | None = None,
    ):
        check_joined()
        self.start = self.step = _checked_start(start)
        self.steps_per_call = _checked_steps_per_call(steps_per_call)
        self._until = _checked_until(until)
        self._stops = [part for part in parts_of(until) if isinstance(part, StopSignal)]
        self._mesh = mesh_of_processes(mesh, start)
        self._source = source_of(batches, self._mesh)
        if isinstance(self._source, PositionedSource):
            _check_stands_at(self._source, self.start)
        self._plan = Plan(check_marks(marks), until, self._source, self.start)
        self._due: frozenset[Joinable] = check_marks(unfinished)
        if not self._due <= self._plan.marks:
            unknown = ", ".join(sorted(map(repr, self._due - self._plan.marks)))
            raise ValueError(f"unfinished holds {unknown}, which marks does not. Pass it in marks too.")
        self._is_begun = False
        self._inexact = self._source if type(self._source) is StreamSource else None
        self._exact_way = None if self._inexact is None else exact_way(batches)
        self._tick: Tick | None = None
        self._meeting: Meeting | None = None  # with the same loop of other processes, once it is iterated
        self._cut_short: tuple[Tick, frozenset[Joinable]] | None = None
        if self._plan.due[STEPS] < self.start:
            self._warn_of_start(int(self._plan.due[STEPS]), stacklevel=5)

    @property
    def interrupted(self) -> bool:
        """Whether a stop was asked for, by a signal or by `.request()`.

        With several processes it is true as soon as all of them know, at the same point of the loop.
        """
        if self._meeting is None:  # asked twice a tick
            return any(stop.is_requested for stop in self._stops)
        return self._meeting.is_stopped

    @property
    def signal(self) -> Signals | None:
        """The signal that asked for the stop; None if none came."""
        signals = (stop.signal for stop in self._stops if self.is_stopped_by(stop))
        return next((signal for signal in signals if signal is not None), None)

    def is_stopped_by(self, stop: StopSignal) -> bool:
        """Whether one of the stop signals in `until` stops the loop."""
        return stop.is_requested if self._meeting is None else stop in self._meeting.stopped_by

    def stop_by(self, stop: StopSignal) -> None:
        """Requests a stop in `until`, on every process in the same tick: the loop ends with that tick."""
        stop.request()
        if self._meeting is not None:
            self._meeting.stop_by(stop)

    @property
    def unfinished(self) -> frozenset[Joinable]:
        """The marks of the present tick that are unfinished because a stop ended `interruptible` early.

        A mark that the body asked for before the one whose evaluation was cut short is finished. Save the
        state with these marks, and pass them on as `unfinished`: then that tick is finished first.
        """
        cut_short = self._cut_short
        return frozenset() if cut_short is None or cut_short[0] is not self._tick else cut_short[1]

    @property
    def data_wait_s(self) -> float:
        """Seconds that the loop has waited for its data so far: reading, decoding, gathering on the host.

        Compare its growth between two marks with the time between them: this shows how much training waits.
        It is 0 where batches lie on the device or in a list.
        """
        return self._source.wait_s

    def warn_if_inexact(self, *, stacklevel: int) -> None:
        """Warns that the place in a plain iterable is not saved, at the first step and where it goes on.

        Args:
          stacklevel: as in `warnings.warn`; 1 means the caller of this method.
        """
        if self._inexact is not None and self.start < self._plan.due[STEPS]:
            warn_of_inexactness(self._inexact.name, self._exact_way, self.start, stacklevel=stacklevel + 1)

    @property
    def last_step(self) -> int | None:
        """The step that ends the loop, as far as `until` and the data's length tell."""
        return self._plan.last_step

    def __iter__(self) -> Iterator[Tick]:
        """The ticks. The handlers of a stop signal are installed while you iterate."""
        if self._is_begun:
            raise RuntimeError(
                f"{self!r} was iterated before, and its data may be used up. Build a new one with "
                "loop(..., start=state.step)."
            )
        self._is_begun = True
        return self._ticks()

    def interruptible(self, batches: Iterable[Any]) -> Iterable[Any]:
        """The batches, up to and including the one during which a stop was asked for.

        Use it for an evaluation inside the loop. After a stop the evaluation ends early and its scores are
        not complete: look at `unfinished` before you use them.

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
        if self._mesh is not None:
            return LaidOut(self._until_stopped(batch for batch, _ in one_pass_over(batches, self._mesh)))
        if isinstance(batches, Stream):
            batches = (batch for batch, _ in cursor_of(batches).with_examples())
        return self._until_stopped(batches)

    def _until_stopped(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            yield batch
            if self._meeting is not None:
                self._meeting.reach_within()
            if self.interrupted:
                # read now, not later: the body asks for more marks after this one
                self._cut_short = None if self._tick is None else (self._tick, self._tick.unfinished())
                return

    def _ticks(self) -> Iterator[Tick]:
        with ExitStack() as stack:
            for stop in self._stops:
                stack.enter_context(stop.listening())
            interrupts = stack.enter_context(Interrupts())
            meeting = self._meeting = self._met()
            if self.interrupted or (self._is_over_by_steps and not self._due):
                return
            plan, marks = self._plan, self._plan.marks
            if isinstance(self._source, StepSource):
                should_stop = (lambda: self.interrupted) if meeting is None else meeting.stops_next
                stack.enter_context(self._source.reading(self.start, plan.last_step, should_stop))
                # a stop came while a batch was waited for
                stack.enter_context(suppress(CancelledError) if meeting is None else meeting.waiting())
            if is_watched := num_processes() > 1:
                stack.callback(at_step, None)
            begin_s, placed = time.monotonic(), self._source.placed
            plan.start_counting(SECONDS, 0)
            for batch, step, num_steps, epoch, examples, fallen, pass_end in self._turns():
                if meeting is not None:
                    elapsed_s = meeting.reach(float(plan.due[SECONDS]), is_last=UNTIL in fallen)
                    if elapsed_s is not None:
                        fallen = fallen | plan.fall(SECONDS, elapsed_s)
                elif plan.is_timed:
                    elapsed_s = time.monotonic() - begin_s
                    if elapsed_s >= plan.due[SECONDS]:
                        fallen = fallen | plan.fall(SECONDS, elapsed_s)
                if self._stops and self.interrupted:  # the stop came while the batch was read
                    return
                if placed is not None:
                    batch = placed(batch)
                self.step = step
                if is_watched:
                    at_step(step)
                interrupts.begin_body()
                self._tick = Tick(batch, step, num_steps, epoch, examples, fallen, marks, pass_end)
                yield self._tick
                interrupts.end_body()
                if UNTIL in fallen or (self._stops and self.interrupted):
                    return
                if meeting is not None and meeting.stops_here():
                    return

    def _met(self) -> Meeting | None:
        """The meeting with this loop on other processes; None where nothing has to be agreed on."""
        if num_processes() == 1 or not (self._stops or self._plan.is_timed):
            return None
        meeting = Meeting(self._stops)
        arguments = ("start", self.start), ("until", self._until), ("steps_per_call", self.steps_per_call)
        meeting.begin([f"{name}={value!r}" for name, value in arguments], self._plan.end_s)
        return meeting

    def _turns(self) -> Iterator[Turn]:
        if isinstance(self._source, StreamSource):
            return self._stream_turns(self._source)
        turns = _indexed_turns(self._source, self.start, self._plan, self.steps_per_call)
        if not self._due:
            return turns
        epoch, is_over = self.start // self._source.steps_per_epoch, self._is_over_by_steps
        return itertools.chain([self._due_turn(epoch, self._source.examples, is_over)], turns)

    @property
    def _is_over_by_steps(self) -> bool:
        return self._plan.due[STEPS] <= self.start

    def _due_turn(self, epoch: int, examples: int | Callable[[int], int], is_over: bool) -> Turn:
        """The turn without a step, at which the unfinished marks fall."""
        fallen = self._due | {UNTIL} if is_over else self._due
        return NO_STEPS, self.start, 0, epoch, examples, frozenset(fallen), None

    def _stream_turns(self, source: StreamSource) -> Iterator[Turn]:
        plan, size = self._plan, self.steps_per_call
        try:
            source.begin(self.start, is_length_needed=plan.is_length_needed)
            is_over = self._is_over(source) or self._is_over_by_steps
            if self._due:
                yield self._due_turn(source.epoch, source.examples, is_over)
            if is_over:
                return
            while True:
                source.begin_tick()
                batch, num_steps = source.advance(copies=size == 1), 1
                fallen = _fallen(source, plan)
                pass_end = PassEnd(source, plan)
                if size > 1:
                    filling = BlockFilling(batch, size)
                    while not fallen and filling.num_steps < size:
                        pass_end.look(copies=False)
                        if not filling.takes(source.ahead):
                            source.keep_ahead()
                            break
                        filling.add(source.advance())
                        fallen, pass_end = _fallen(source, plan), PassEnd(source, plan)
                    batch, num_steps = filling.block(), filling.num_steps
                epoch = source.epoch - pass_end.is_here
                yield batch, source.step, num_steps, epoch, source.examples_when_asked(), fallen, pass_end
                if UNTIL in pass_end.look().fallen:
                    if not pass_end.is_limit:
                        self._warn_of_end(source, stacklevel=5)
                    return
        finally:
            source.release(self.step)

    def _is_over(self, source: StreamSource) -> bool:
        """Reads and drops the batches before `start`. Returns whether the loop ends there or ended before."""
        plan, end = self._plan, None
        while True:
            is_end = plan.start_counting(EXAMPLES, source.num_counted)
            is_end = plan.start_counting(EPOCHS, source.epoch) or is_end
            if end is None and is_end:
                end = source.step
            if source.step == self.start or source.is_exhausted:
                break
            source.advance()
            source.look()
        if end is not None and end < self.start:
            self._warn_of_start(end, stacklevel=6)
        elif end is None and source.is_exhausted and not self._is_over_by_steps:
            self._warn_of_end(source, stacklevel=6)
        return end is not None or source.is_exhausted

    def _warn_of_start(self, end: int, stacklevel: int) -> None:
        by_number = isinstance(self._source, StepSource)
        warn_of_start_beyond_end(self.start, end, self._until, by_number=by_number, stacklevel=stacklevel)

    def _warn_of_end(self, source: StreamSource, stacklevel: int) -> None:
        if self._plan.has_limit and not self.interrupted:
            warn_of_early_end(source.name, source.step, self._until, stacklevel=stacklevel)

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
        yield batch, step, num_steps, step // epoch_length, source.examples, fallen, None


def _fallen(source: StreamSource, plan: Plan) -> frozenset[object]:
    due, fallen = plan.due, NOTHING
    if source.step >= due[STEPS]:
        fallen |= plan.fall(STEPS, source.step)
    if due[EXAMPLES] < math.inf and source.examples >= due[EXAMPLES]:
        fallen |= plan.fall(EXAMPLES, source.examples)
    return fallen


def _checked_until(until: Object) -> Joinable:
    if isinstance(until, Joinable):
        return until
    raise TypeError(
        f"until={until!r} is no limit. Use at(epochs=5), at(steps=10_000), stop_signal(), or "
        "several joined with |."
    )


def _checked_start(start: Scalar) -> int:
    try:
        step = operator.index(start)
    except TypeError:
        step = -1
    except (RuntimeError, ValueError) as error:  # the state is used up
        raise_if_used_up(error, start=start)
        raise
    if step < 0 or isinstance(start, bool):
        raise ValueError(
            f"start={start!r} is no number of steps. Pass an integer of at least 0, or state.step."
        )
    return step


def _check_stands_at(source: PositionedSource, start: int) -> None:
    if source.start != start:
        raise ValueError(
            f"start={start}, and {source.name} has given {source.start} batches: its next one is not that of "
            "the next step. Restore it with what stream.state() gave at the step of the state, "
            "stream.restore(saved); in a run, run.restore and run.loop do so. A state of step 0 takes a new "
            "Stream."
        )


def _checked_steps_per_call(steps_per_call: Object) -> int:
    if isinstance(steps_per_call, bool) or not isinstance(steps_per_call, Integral):
        raise TypeError(f"steps_per_call={steps_per_call!r} is {a_type(steps_per_call)}; it takes an int.")
    if steps_per_call < 1:
        raise ValueError(f"steps_per_call={steps_per_call} must be at least 1.")
    return int(steps_per_call)
