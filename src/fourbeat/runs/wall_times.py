"""Where the wall time of a run goes: steps, compiling, waiting for data, saving, evaluating, starting."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import jax

from fourbeat.compiling.compilation_monitor import CompilationMonitor
from fourbeat.evaluating.evaluation_time import EVALUATION
from fourbeat.runs.goodput import KINDS, after_restart


class WallTimes:
    """Counts while it is entered, in the thread that entered it.

    A step is handed to the device and not waited for: its time is where the program waits for its values,
    most often where they are logged, and that counts as steps. What compiles counts as compiling alone,
    within an evaluation too. An evaluation is one of `fourbeat.evaluator`. What comes before the first loop
    and is none of these is starting; of an attempt that goes on, it is lost to the restart.

    Args:
      age_s: seconds that have passed already.
    """

    def __init__(self, age_s: float = 0.0) -> None:
        self._earlier: Mapping[str, float] = {}  # of the attempts before this one
        self._start_is = "starting"
        self._begin_s = time.monotonic() - age_s
        self._starting_s = 0.0
        self._compilations = CompilationMonitor()
        self._evaluating_s = self._saving_s = self._waited_s = 0.0
        self._compiled_before_s = 0.0  # the present evaluation
        self._is_saving = False
        self._of_loop: Callable[[], float] = lambda: 0.0  # seconds that the present loop has waited
        self._loop_begin: tuple[float, float] | None = None  # the time, and what is no step in it
        self._steps_s = self._steps_of_loop_s = 0.0
        self._thread: int | None = None

    def __enter__(self) -> Self:
        self._thread = threading.get_ident()
        self._compilations.__enter__()
        jax.monitoring.register_scalar_listener(self._evaluation_begins)
        jax.monitoring.register_event_duration_secs_listener(self._evaluation_ends)
        return self

    def __exit__(self, *error: object) -> None:
        self._compilations.__exit__(*error)
        jax.monitoring.unregister_scalar_listener(self._evaluation_begins)
        jax.monitoring.unregister_event_duration_listener(self._evaluation_ends)

    def go_on(self, recorded: Mapping[str, float], saved: Mapping[str, float]) -> None:
        """Takes over the times of the attempts before; the arguments are those of `goodput.after_restart`."""
        self._earlier = after_restart(recorded, saved)
        self._start_is = "lost_to_restarts"

    def begin_loop(self, waited_s: Callable[[], float]) -> None:
        """A loop begins; `waited_s` tells the seconds that it has waited for its data so far."""
        if self._loop_begin is None:
            self._starting_s = max(time.monotonic() - self._begin_s - self._no_steps_s(), 0.0)
        self.end_tick()
        self._steps_s, self._steps_of_loop_s = self._steps_s + self._steps_of_loop_s, 0.0
        self._waited_s += self._of_loop()
        self._of_loop = waited_s
        self._loop_begin = time.monotonic(), self._no_steps_s()

    def end_tick(self) -> None:
        """The body of a tick is done."""
        if self._loop_begin is not None:
            begin_s, before_s = self._loop_begin
            passed_s = time.monotonic() - begin_s
            self._steps_of_loop_s = max(passed_s - (self._no_steps_s() - before_s), 0.0)

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """A context whose time is that of saving."""
        if self._is_saving:  # within another
            yield
            return
        begin_s, before_s = time.monotonic(), self._compilations.total_s
        self._is_saving = True
        try:
            yield
        finally:
            self._is_saving = False
            self._saving_s += time.monotonic() - begin_s - (self._compilations.total_s - before_s)

    def seconds(self) -> dict[str, float]:
        """Seconds by kind, those of the earlier attempts included; `all` is their sum."""
        counted = {
            self._start_is: self._starting_s,
            "steps": self._steps_s + self._steps_of_loop_s,
            "compiling": self._compilations.total_s,
            "waiting_for_data": self._waited_s + self._of_loop(),
            "saving": self._saving_s,
            "evaluating": self._evaluating_s,
        }
        counted["other"] = max(time.monotonic() - self._begin_s - sum(counted.values()), 0.0)
        seconds = {kind: round(counted.get(kind, 0.0) + self._earlier.get(kind, 0.0), 3) for kind in KINDS}
        return {**seconds, "all": round(sum(seconds.values()), 3)}

    def _no_steps_s(self) -> float:
        """Seconds so far that were no steps."""
        waited_s = self._waited_s + self._of_loop()
        return self._compilations.total_s + waited_s + self._saving_s + self._evaluating_s

    def _evaluation_begins(self, event: str, value: float, **more: Any) -> None:
        if event == EVALUATION and threading.get_ident() == self._thread:
            self._compiled_before_s = self._compilations.total_s

    def _evaluation_ends(self, event: str, duration_secs: float, **more: Any) -> None:
        if event == EVALUATION and threading.get_ident() == self._thread:
            compiled_s = self._compilations.total_s - self._compiled_before_s
            self._evaluating_s += max(duration_secs - compiled_s, 0.0)
