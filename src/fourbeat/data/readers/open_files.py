"""Files that stay open between reads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class OpenFiles:
    """Lends each file that was opened to one thread at a time, and keeps those used last open.

    Args:
      open_file: opens the file of a number; what it gives has `close`.
      most: how many stay open while no thread reads them.
    """

    def __init__(self, open_file: Callable[[int], Any], most: int):
        self._open_file, self._most = open_file, most
        self._idle: list[tuple[int, Any]] = []  # the one used last is last
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, number: int) -> Iterator[Any]:
        """A context in which this thread alone reads the file. After an error the file is not kept."""
        with self._lock:
            place = next((i for i, (other, _) in enumerate(self._idle) if other == number), None)
            file = None if place is None else self._idle.pop(place)[1]
        if file is None:
            file = self._open_file(number)
        try:
            yield file
        except BaseException:
            file.close()
            raise
        with self._lock:
            self._idle.append((number, file))
            surplus = self._idle[: -self._most]
            del self._idle[: -self._most]
        for _, each in surplus:
            each.close()
