"""Progress of a loop on the screen: its rates, the time left, its newest values, what is being compiled."""

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Self, TextIO, TypeVar

from fourbeat.compiling.compilation_monitor import CompilationMonitor
from fourbeat.distributed import speaks
from fourbeat.runs.progress_displays import display_for
from fourbeat.runs.progress_state import ProgressState

_Tick = TypeVar("_Tick")
_PULSE_S = 0.25  # time between two drawings


def progress(loop: Iterable[_Tick], *, file: TextIO | None = None) -> "Progress[_Tick]":
    """The ticks of `loop`, with its progress on the screen.

    A terminal shows a bar with the time left, steps and examples a second; a notebook shows the same in the
    output of its cell; elsewhere, and on a dumb terminal, plain lines appear at the beginning,
    every 15 seconds and at the end. While JAX compiles, the display shows what it compiles and for how long.
    Output that the body of the loop prints appears above the bar. Nothing is copied from the device: the
    rate is that at which steps are handed to it. If the loop waits for its data for a hundredth of the time
    or more, the display shows that too. Of several processes, process 0 alone has a display.

    Args:
      loop: from `fourbeat.loop`.
      file: where to write; by default the notebook, or else standard error, so that a redirected output
        stays clean.

    Returns:
      The ticks to iterate over; its `.show(**values)` adds your newest values to the display.

    >>> import fourbeat as fb
    >>> import io
    >>> import numpy as np
    >>> log = fb.every(steps=2)
    >>> bar = progress(fb.loop([{"x": np.ones(2)}], until=fb.at(steps=3), marks=[log]), file=io.StringIO())
    >>> for tick in bar:
    ...     if log in tick:
    ...         bar.show(loss=0.5)
    >>> bar
    Progress(step 3/3, loss 0.5000)
    """
    return Progress(loop, file)


class Progress(Generic[_Tick]):
    """Ticks to iterate over, shown as they pass. Made by `progress`."""

    def __init__(self, loop: Iterable[_Tick], file: TextIO | None):
        self._loop = loop
        self._display = display_for(file)
        self._underway = CompilationMonitor()
        start, last_step = getattr(loop, "start", 0), getattr(loop, "last_step", None)
        waited_s = lambda: getattr(loop, "data_wait_s", 0.0)
        self._state = ProgressState(start, last_step, self._underway, waited_s)

    def show(self, /, **values: Any) -> None:
        """Adds values to the display, in place of those shown before.

        Numbers of the device are copied to the host here, which waits for them: call it at a mark.

        Args:
          values: values by name; a value of more than one number is left out.
        """
        if speaks():
            self._state.show(values)

    def __iter__(self) -> Iterator[_Tick]:
        """The ticks; the display ends with them. A loop that begins at its end has no display."""
        state = self._state
        is_over = state.last_step is not None and state.start >= state.last_step
        if is_over or not speaks():
            yield from self._loop
            return
        state.begin()
        with self._underway, self._display(state) as draw, _Pulse(draw):
            for tick in self._loop:
                state.reach(tick)
                yield tick
                state.see(tick)
            state.end()

    def __repr__(self) -> str:
        return f"Progress({', '.join([self._state.steps_in_words(), *self._state.values_in_words()])})"


class _Pulse:
    """Calls a function again and again from a thread, while the main thread computes or compiles."""

    def __init__(self, draw: Callable[[], None]):
        self._draw = draw
        self._ended = threading.Event()
        context = contextvars.copy_context()  # the context tells a notebook which cell the output belongs to
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_PULSE_S):
            with contextlib.suppress(OSError):  # the run goes on even if the screen is gone
                self._draw()
