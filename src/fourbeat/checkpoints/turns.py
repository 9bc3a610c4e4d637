"""Turns: work that threads begin in one order is done in that order, a piece at a time."""

import threading
from collections import deque
from types import TracebackType
from typing import Self


class Turn:
    """A place in the queue. In a `with` statement: waits for those before it, and lets the next one on.

    Several processes that take their turns in the same order do the work in the same order, in any threads.
    """

    def __init__(self) -> None:
        with _changed:
            _queue.append(self)

    def __enter__(self) -> Self:
        with _changed:
            _changed.wait_for(lambda: _queue[0] is self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Gives the place up."""
        with _changed:
            _queue.remove(self)
            _changed.notify_all()


_queue: deque[Turn] = deque()
_changed = threading.Condition()
