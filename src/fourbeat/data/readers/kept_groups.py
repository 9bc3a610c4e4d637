"""The groups of examples that were read last."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class KeptGroups:
    """Keeps the groups that were asked for last; several threads may ask at once.

    Args:
      load: the group of a number. Two threads that want one group load it once; two groups load side by side.
      most: how many are kept.

    >>> kept = KeptGroups(lambda number: print("loading", number) or number, most=1)
    >>> kept(1), kept(1), kept(2)
    loading 1
    loading 2
    (1, 1, 2)
    """

    def __init__(self, load: Callable[[int], Any], most: int):
        self._load, self._most = load, most
        self._kept: dict[int, Future[Any]] = {}  # the one asked for last is last
        self._lock = threading.Lock()

    def __call__(self, number: int) -> Any:
        """The group, out of what is kept or loaded now."""
        with self._lock:
            future = self._kept.pop(number, None)
            is_new = future is None
            if future is None:
                future = Future()
            self._kept[number] = future
            while len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]
        if is_new:
            try:
                future.set_result(self._load(number))
            except BaseException as error:
                with self._lock:
                    self._kept.pop(number, None)
                future.set_exception(error)
        return future.result()
