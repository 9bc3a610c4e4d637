"""Meeting points: the places between ticks at which the loops of all processes stop, or see the clock.

A process that ended its loop as soon as its own signal comes would leave the others in a step that needs it.
So each process counts the points that it reaches: the beginning of each tick, and each batch of an evaluation
that can be interrupted. One that wants something calls the others. A thread of each process waits for that,
and tells how many points its process has reached. What is wanted falls at the first point that none has
reached. No process goes on to its next point until this is known, which takes a few milliseconds. Nothing is
exchanged where nobody wants anything.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any, Final

import jax

from fourbeat.distributed.agreement import PeerError, gather
from fourbeat.distributed.runtime import client, num_processes, process_index
from fourbeat.looping.signals import StopSignal

_TOPIC: Final = "meeting points"
_WAIT_MS: Final = 3_600_000  # of one call of the service, which then begins again
_SHARE: Final = 0.01  # of the time, at most: what agreeing on the clock takes
_LEAVING_S: Final = 5.0  # time for the thread to end

# What falls at a point, by loop: stops by their place, with the number of the signal; seconds of the clock.
Wish = dict[str, Any]


class MeetingPoints:
    """The points that this process has reached in all its loops, and what falls at the next ones.

    Every process reaches the same points in the same order.

    Attributes:
      took_s: seconds that the last agreement took.
    """

    def __init__(self) -> None:
        self.took_s = 0.0
        self.client = client()
        self._lock = threading.Lock()  # held while processes agree
        self._num_reached = self._num_loops = self._num_agreed = 0
        self._wishes: dict[str, Wish] = {}
        self._falling: dict[int, dict[str, Wish]] = {}  # by point, by loop
        self._error: PeerError | None = None
        self._is_closing = False
        self._thread = threading.Thread(target=self._answer_calls, name="fourbeat-meets", daemon=True)
        self._thread.start()
        atexit.register(self._close)  # a thread that waits in the service would abort the process

    def new_loop(self) -> str:
        """A name for a loop; the same loop has the same one on every process."""
        self._num_loops += 1
        return str(self._num_loops)

    def reach(self, loop: str, wish: Wish) -> Wish:
        """Reaches the next point, and gives what falls there.

        Args:
          loop: its name.
          wish: what this process wants to fall as soon as it can; empty for nothing.
        """
        with self._lock:
            self._num_reached += 1
            come = self._falling.pop(self._num_reached, {}).get(loop, {})
            self._raise_if_broken()
        self.want(loop, wish)
        return come

    def want(self, loop: str, wish: Wish) -> None:
        """Calls the others, where `wish` is not empty."""
        if not wish:
            return
        with self._lock:
            self._raise_if_broken()
            self._wishes[loop] = merged([self._wishes.get(loop, {}), wish])
            number = self._num_agreed
        for each in range(num_processes()):
            self._call(number, each, "call")

    def stops_next(self, loop: str) -> bool:
        """Whether it is known by now that the loop stops at the next point."""
        return bool(self._falling.get(self._num_reached + 1, {}).get(loop, {}).get("stops"))

    def _raise_if_broken(self) -> None:
        if self._error is not None:
            raise PeerError(f"cannot agree on a stop or a mark in seconds: {self._error}") from self._error

    def _answer_calls(self) -> None:
        while self._is_called():
            begin_s = time.monotonic()
            with self._lock:
                told = {"reached": self._num_reached, "wishes": self._wishes}
                try:
                    everyone = gather(told, topic=_TOPIC)
                except PeerError as error:
                    self._error = error
                    return
                self._num_agreed += 1
                self._wishes = {}
                point, wishes = agreed(everyone)
                self._falling.setdefault(point, {}).update(wishes)
            self.took_s = time.monotonic() - begin_s

    def _is_called(self) -> bool:
        """Waits until a process calls; False where this process ends, or the service has."""
        key = self._key(self._num_agreed, process_index())
        while not self._is_closing:
            try:
                self.client.blocking_key_value_get(key, _WAIT_MS)
                self.client.key_value_delete(key)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    return False
            else:
                return not self._is_closing
        return False

    def _call(self, number: int, process: int, text: str) -> None:
        self.client.key_value_set(self._key(number, process), text, allow_overwrite=True)

    def _key(self, number: int, process: int) -> str:
        return f"fourbeat/{_TOPIC}/calls/{number}/{process}"

    def _close(self) -> None:
        self._is_closing = True
        with suppress(jax.errors.JaxRuntimeError):
            self._call(self._num_agreed, process_index(), "end")
        self._thread.join(_LEAVING_S)


def agreed(everyone: Sequence[dict[str, Any]]) -> tuple[int, dict[str, Wish]]:
    """The point at which wishes fall, and the wishes by loop, from what each process has told.

    >>> agreed([{"reached": 4, "wishes": {}}, {"reached": 6, "wishes": {"1": {"stops": {"0": 15}}}}])
    (7, {'1': {'stops': {'0': 15}}})
    """
    loops = sorted({loop for told in everyone for loop in told["wishes"]})
    wishes = {loop: merged([told["wishes"].get(loop, {}) for told in everyone]) for loop in loops}
    return 1 + max(told["reached"] for told in everyone), wishes


def merged(wishes: Sequence[Wish]) -> Wish:
    """Several wishes as one: every stop, and the latest time. Of one stop the first signal counts.

    >>> merged([{"stops": {"0": 15}}, {}, {"stops": {"0": 2, "1": None}, "elapsed_s": 2.5}])
    {'stops': {'0': 15, '1': None}, 'elapsed_s': 2.5}
    """
    stops: dict[str, int | None] = {}
    for wish in reversed(wishes):
        stops |= wish.get("stops", {})
    times = [wish["elapsed_s"] for wish in wishes if "elapsed_s" in wish]
    return {
        **({"stops": dict(sorted(stops.items()))} if stops else {}),
        **({"elapsed_s": max(times)} if times else {}),
    }


class Meeting:
    """What a loop agrees on with the same loop of other processes: its stops, and the clock of process 0.

    Attributes:
      stopped_by: the stop signals that all processes know of.
    """

    def __init__(self, stops: Sequence[StopSignal]):
        self.stopped_by: list[StopSignal] = []
        self._stops = stops
        self._points = _points_of_this_process()
        self._loop = self._points.new_loop()
        self._wished: set[int] = set()  # stops, by their place
        self._elapsed_s: float | None = None  # what the clock said at a point within a tick
        self._begin_s = self._next_s = self._end_s = 0.0
        self._is_timing = self._is_over = False

    def begin(self, what: Sequence[object], end_s: float) -> None:
        """Waits for the other processes to begin the loop; a stop that any of them knows of stops all.

        Args:
          what: the arguments of the loop, as each process has to have them.
          end_s: after how many seconds the loop ends; infinite where no clock ends it.

        Raises:
          PeerError: they differ.
        """
        seen = gather([list(map(str, what)), self._wish_to_stop()], topic="loop begins")
        _check_alike([each for each, _ in seen])
        self._take(merged([wish for _, wish in seen]))
        self._begin_s, self._end_s = time.monotonic(), end_s

    @property
    def is_stopped(self) -> bool:
        """Whether all processes know of a stop."""
        return bool(self.stopped_by)

    def reach(self, due_s: float, *, is_last: bool = False) -> float | None:
        """Reaches the next point, at the beginning of a tick.

        Args:
          due_s: when the next mark in seconds falls.
          is_last: whether the loop ends with this tick anyway.

        Returns:
          Seconds that all processes take for those since the loop began, where a mark in seconds falls.
        """
        wish = {} if is_last else {**self._wish_to_stop(), **self._wish_of_clock(due_s)}
        self._take(self._points.reach(self._loop, wish))
        elapsed_s, self._elapsed_s = self._elapsed_s, None
        return elapsed_s

    def reach_within(self) -> None:
        """Reaches the next point, within a tick."""
        self._take(self._points.reach(self._loop, self._wish_to_stop()))

    def stops_next(self) -> bool:
        """Whether the loop stops at its next point; to be asked while this process waits, too."""
        if self._is_over:
            return self.is_stopped
        self._points.want(self._loop, self._wish_to_stop())
        return self.is_stopped or self._points.stops_next(self._loop)

    def stops_here(self) -> bool:
        """Whether the loop stops at its next point, which is then reached."""
        is_next = not self.is_stopped and self._points.stops_next(self._loop)
        if is_next:
            self.reach_within()
        return is_next or self.is_stopped

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A context that a `CancelledError` ends, raised because `stops_next` became true."""
        try:
            yield
        except CancelledError:
            self.stops_here()
        finally:
            self._is_over = True

    def stop_by(self, stop: StopSignal) -> None:
        """Takes a stop that every process requests at the same point: they need not agree on it."""
        self._wished.add(self._stops.index(stop))
        self.stopped_by.append(stop)

    def _wish_to_stop(self) -> Wish:
        new = {
            str(place): stop.signal
            for place, stop in enumerate(self._stops)
            if stop.is_requested and place not in self._wished
        }
        self._wished.update(map(int, new))
        return {"stops": new} if new else {}

    def _wish_of_clock(self, due_s: float) -> Wish:
        if self._is_timing or process_index() != 0:
            return {}
        elapsed_s = time.monotonic() - self._begin_s
        if elapsed_s < min(max(due_s, self._next_s), self._end_s):
            return {}
        self._is_timing = True
        return {"elapsed_s": elapsed_s}

    def _take(self, come: Wish) -> None:
        for place, number in come.get("stops", {}).items():
            stop = self._stops[int(place)]
            self._wished.add(int(place))
            self.stopped_by.append(stop)
            if not stop.is_requested:
                stop.request(number)
        if "elapsed_s" in come:
            self._elapsed_s = come["elapsed_s"]
            self._is_timing = False
            self._next_s = time.monotonic() - self._begin_s + self._points.took_s / _SHARE


_points: MeetingPoints | None = None


def _points_of_this_process() -> MeetingPoints:
    global _points
    if _points is None or _points.client is not client():
        _points = MeetingPoints()
    return _points


def _check_alike(seen: Sequence[list[str]]) -> None:
    for process, what in enumerate(seen):
        if what != seen[0]:
            raise PeerError(
                f"process 0 begins a loop with {', '.join(seen[0])}, and process {process} one with "
                f"{', '.join(what)}. Every process has to run the same program, from the same step."
            )
