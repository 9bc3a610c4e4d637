"""Stop signals: Ctrl-C, SIGTERM and SIGHUP end a loop after its present step instead of inside it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fourbeat.looping.durations import Joinable

# What asks a process to end: Ctrl-C, a scheduler, a terminal that is closed (which Windows does not have).
_ASKING = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def stop_signal(*signals: int, install: bool = True) -> StopSignal:
    """A limit that falls when the process is asked to stop; it joins into a loop's `until`.

    While a loop with it runs, its handlers replace the earlier ones. The first signal sets a flag; the
    body of the present tick runs to its end, then the loop ends with `.interrupted` True. The earlier
    handlers come back when the loop ends, whatever ends it. A second Ctrl-C (SIGINT) brings them back
    and raises `KeyboardInterrupt` at once.

    In a notebook it makes the stop button end the loop quietly: the code below the loop still runs, and
    the state of the last whole step is there in the next cell.

    A signal that is ignored stays ignored, unless you name it: a parent such as `nohup`, or a shell that
    begins a job in the background, asks for this.

    A request stays: a later loop with the same object ends before its first tick. Of nested loops
    the innermost one receives the signal, unless they share one object.

    Args:
      *signals: signal numbers; default `signal.SIGINT`, `signal.SIGTERM` and `signal.SIGHUP`,
        where they are not ignored.
      install: False installs no handler; then only `.request()` stops the loop. This is the form
        for a loop that runs off the main thread, where Python allows no handlers.

    Returns:
      The stop signal; `.request()` on it asks for the stop by hand, from any thread.

    Raises:
      ValueError: a number is no signal, or one that cannot be caught; or signals were given
        together with `install=False`.

    >>> stop = stop_signal(install=False)
    >>> stop.request()
    >>> stop.is_requested
    True
    """
    if not install:
        if signals:
            raise ValueError(
                f"stop_signal({', '.join(map(str, map(int, signals)))}, install=False): without "
                "handlers no signal is seen. Leave the signals out, or install=False."
            )
        return StopSignal(())
    return StopSignal(tuple(map(_checked, signals)) or _ASKING, is_ignoring_kept=not signals)


class StopSignal(Joinable):
    """A stop that may be asked for at any time: built by `stop_signal`.

    Attributes:
      is_requested: True once a signal has come or `request` was called.
      signal: the signal that came; None if none has.
    """

    __slots__ = ("_is_ignoring_kept", "_num_interrupts", "_signals", "is_requested", "signal")

    def __init__(self, signals: tuple[signal.Signals, ...], *, is_ignoring_kept: bool = False):
        self.is_requested = False
        self.signal: signal.Signals | None = None
        self._signals = signals
        self._is_ignoring_kept = is_ignoring_kept
        self._num_interrupts = 0

    def request(self, number: int | None = None) -> None:
        """Ask the loop to end after its present tick; callable from any thread.

        Args:
          number: the number of the signal that `.signal` then gives; by default none.
        """
        if number is not None:
            self.signal = signal.Signals(number)
        self.is_requested = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Installs the handlers while entered; afterwards the earlier ones are back."""
        if self._signals and threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                f"{self!r}: a loop can only catch signals on the main thread, and this is thread "
                f"{threading.current_thread().name!r}. Use until=... | stop where "
                "stop = stop_signal(install=False), and call stop.request() from where the signal "
                "is seen."
            )
        previous: dict[signal.Signals, Any] = {}

        def restore() -> None:
            while previous:
                signal.signal(*previous.popitem())

        def note(number: int, frame: FrameType | None) -> None:
            self.request(number)
            if number == signal.SIGINT:
                self._num_interrupts += 1
                if self._num_interrupts > 1:
                    restore()
                    raise KeyboardInterrupt

        try:
            for number in self._signals:
                earlier = signal.getsignal(number)
                # None is a handler that was not installed from Python: it could not be put back.
                is_wish = self._is_ignoring_kept and earlier is signal.SIG_IGN
                if earlier is not None and not is_wish:
                    previous[number] = earlier
                    signal.signal(number, note)
            yield
        finally:
            restore()

    def __repr__(self) -> str:
        return f"stop_signal({', '.join(s.name for s in self._signals) or 'install=False'})"


def _checked(number: int) -> signal.Signals:
    try:
        known = signal.Signals(number)
    except ValueError:
        raise ValueError(
            f"stop_signal({number!r}): this is no signal of this system. Use numbers from the "
            "signal module, such as signal.SIGTERM."
        ) from None
    if known.name in ("SIGKILL", "SIGSTOP"):
        raise ValueError(
            f"stop_signal({known.name}): no process can catch {known.name}. Checkpoints are what survives it."
        )
    return known
