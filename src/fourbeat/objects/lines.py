"""The file and line that write to a slot, found by looking at it after every line of a trace."""

import contextlib
import linecache
import sys
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any, NamedTuple

from fourbeat.objects.ownership import Ownership
from fourbeat.objects.snapshot import Change, Holder, Key, Snapshot
from fourbeat.types import Object


class Line(NamedTuple):
    """A line of code.

    >>> str(Line("/home/me/app.py", 6))
    'app.py:6'
    """

    file: str
    number: int

    @property
    def text(self) -> str:
        """The line itself, without the space around it."""
        return linecache.getline(self.file, self.number).strip()

    def __str__(self) -> str:
        return f"{self.file.replace(chr(92), '/').rpartition('/')[2]}:{self.number}"


class LineWatch:
    """Watches holders while a function runs; only lines of the function's own packages count.

    Args:
      own: the packages whose lines count. A write in a library counts for the line that called it.
    """

    def __init__(self, own: Ownership):
        self.found: dict[Key, Line] = {}
        self._own = own
        self._watched: dict[Key, Snapshot] = {}
        self._last: Line | None = None
        self._previous: Any = None

    def watch(self, holders: Iterable[Holder]) -> None:
        """Watches these holders from what they hold now."""
        for holder in holders:
            self._watched[holder.key] = Snapshot([holder.now()])

    def start(self) -> None:
        """Starts to watch lines on this thread."""
        self._previous = sys.gettrace()
        self._last = None
        sys.settrace(self._on_call)

    def stop(self) -> None:
        """Ends the watch. A debugger or coverage tool that watched before goes on."""
        sys.settrace(self._previous)
        self._look()

    def _on_call(self, frame: FrameType, event: str, arg: Object) -> Any:
        if not self._own.is_own_frame(frame) or frame.f_code.co_name == "<genexpr>":
            return None  # a generator expression writes nothing: the line that takes an item from it writes
        self._look()
        self._last = Line(frame.f_code.co_filename, frame.f_lineno)
        return self._on_line

    def _on_line(self, frame: FrameType, event: str, arg: Object) -> Any:
        self._look()
        if event == "return":
            back = frame.f_back
            while back is not None and not self._own.is_own_frame(back):
                back = back.f_back
            frame = back or frame
        self._last = Line(frame.f_code.co_filename, frame.f_lineno)
        return self._on_line

    def _look(self) -> None:
        if self._last is None:
            return
        for snapshot in self._watched.values():
            for change in snapshot.changes():
                self.found.setdefault(change.place, self._last)
                self.found.setdefault((*change.holder.key, None), self._last)


def lines_of(
    changes: Sequence[Change], start: Snapshot, own: Ownership, run: Callable[[], Any]
) -> dict[Key, Line]:
    """The lines that make `changes`, by place. `run` starts from `start`; everything is put back afterwards.

    Args:
      changes: the changes to look for.
      start: the snapshot from before the changes.
      own: whose lines count.
      run: runs the function; may raise.
    """
    start.restore()
    lines = LineWatch(own)
    lines.watch(start.among({change.holder.key for change in changes}))
    lines.start()
    try:
        with contextlib.suppress(Exception):  # the run that made the changes has reported its error already
            run()
    finally:
        lines.stop()
        start.restore()
    return lines.found
