"""Ctrl-C without a stop signal: KeyboardInterrupt is raised between two ticks, not inside a step."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interrupts:
    """Holds a Ctrl-C back while a loop's body runs, so that `state, logs = step(state, batch)` is whole.

    A compiled step deletes the state that it is given. A KeyboardInterrupt between the call and the
    assignment would leave the deleted state in the loop's variable, and the new state would be lost.

    While entered it replaces Python's own handler, and no other: a stop signal, the user's own handler and
    the loops of other threads stay as they are. A second Ctrl-C raises at once. If the body itself leaves
    the loop after a Ctrl-C, for example with `break`, the Ctrl-C is not raised.
    """

    def __init__(self) -> None:
        self._is_held_back = self._is_in_body = False
        self._earlier: Any = None

    def __enter__(self) -> Self:
        earlier = signal.getsignal(signal.SIGINT)
        is_pythons = earlier is signal.default_int_handler
        is_of_a_loop_around = isinstance(getattr(earlier, "__self__", None), Interrupts)
        if threading.current_thread() is threading.main_thread() and (is_pythons or is_of_a_loop_around):
            self._earlier = earlier
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def begin_body(self) -> None:
        """The loop's body runs from here on."""
        self._is_in_body = True

    def end_body(self) -> None:
        """The loop's body has run.

        Raises:
          KeyboardInterrupt: a Ctrl-C came while the body ran.
        """
        self._is_in_body = False
        if self._is_held_back:
            self._restore()
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._is_in_body and not self._is_held_back:
            self._is_held_back = True
            return
        self._restore()
        raise KeyboardInterrupt

    def _restore(self) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        # another handler may be set by now: a notebook sets its own between two cells
        if self._earlier is not None and is_main and signal.getsignal(signal.SIGINT) == self._note:
            signal.signal(signal.SIGINT, self._earlier)
        self._earlier = None
