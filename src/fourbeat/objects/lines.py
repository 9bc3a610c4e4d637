"""The file and line that write to a slot, found by looking at it after every line of a trace."""

import dataclasses
import sys
from collections.abc import Iterable
from typing import Any

from fourbeat.objects.ownership import Ownership
from fourbeat.objects.snapshot import Holder, Key, Snapshot

Line = tuple[str, int]  # file and line number


class LineWatch:
    """Watches holders while a function runs; lines of the function's own packages alone count.

    Args:
      own: whose lines count; a write in a library counts for the line that called it.
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
            now = dataclasses.replace(holder, slots=holder.reader.read(holder.value))
            self._watched[holder.key] = Snapshot([now])

    def start(self) -> None:
        """From here on lines are watched, on this thread."""
        self._previous = sys.gettrace()
        self._last = None
        sys.settrace(self._on_call)

    def stop(self) -> None:
        """Ends the watch; a debugger or coverage tool that watched before goes on."""
        sys.settrace(self._previous)
        self._look()

    def _on_call(self, frame: Any, event: str, arg: Any) -> Any:
        if not self._own.is_own_frame(frame) or frame.f_code.co_name == "<genexpr>":
            return None  # a generator expression writes nothing: who asked it for an item moved it on
        self._look()
        self._last = (frame.f_code.co_filename, frame.f_lineno)
        return self._on_line

    def _on_line(self, frame: Any, event: str, arg: Any) -> Any:
        self._look()
        if event == "return":
            back = frame.f_back
            while back is not None and not self._own.is_own_frame(back):
                back = back.f_back
            frame = back or frame
        self._last = (frame.f_code.co_filename, frame.f_lineno)
        return self._on_line

    def _look(self) -> None:
        if self._last is None:
            return
        for snapshot in self._watched.values():
            for change in snapshot.changes():
                self.found.setdefault(change.place, self._last)
                self.found.setdefault((*change.holder.key, None), self._last)
