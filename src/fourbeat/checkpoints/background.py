"""One piece of work at a time, off the main thread; its failure comes back to whoever asks next."""

import concurrent.futures
import os
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """Runs functions in one thread, one after the other. A program that ends waits for them.

    >>> background = Background()
    >>> background.start(lambda: 1 / 0)
    >>> background.wait()
    Traceback (most recent call last):
    ZeroDivisionError: division by zero
    >>> background.wait()
    >>> background.close()
    """

    def __init__(self) -> None:
        self._begin()

    def start(self, work: Callable[[], None]) -> None:
        """Hands `work` to the thread. Call `wait` before, or its failure is not told apart."""
        self._renew_in_a_fork()
        future = self._executor.submit(work)
        self._unseen.append(future)
        _unfinished.add(future)
        future.add_done_callback(_unfinished.discard)

    def wait(self) -> None:
        """Waits for the work begun last, and raises what it raised, once."""
        self._renew_in_a_fork()
        while self._unseen:
            future = self._unseen[0]
            failure = future.exception()
            if future in self._unseen:  # else another thread that waited tells it
                self._unseen.remove(future)
                if failure is not None:
                    raise failure

    def close(self) -> None:
        """Waits, raises, and lets the thread end."""
        self._renew_in_a_fork()
        self._executor.shutdown(wait=True)
        self.wait()

    def _begin(self) -> None:
        # One thread that stays: starting a thread waits for it to run, for milliseconds on busy cores.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="fourbeat-checkpoints")
        self._unseen: list[Future[None]] = []
        self._process = os.getpid()
        weakref.finalize(self, _print_failures, self._unseen)

    def _renew_in_a_fork(self) -> None:
        """In a forked process the thread is not there, and the work is that of the other process."""
        if self._process != os.getpid():
            self._begin()


def _print_failures(unseen: list[Future[None]]) -> None:
    """Prints the failure of work that no caller waited for, now or when it comes."""
    for future in unseen:
        future.add_done_callback(_print_failure)


def _print_failure(future: Future[None]) -> None:
    if (failure := future.exception()) is not None:
        print(f"fourbeat: {failure}", file=sys.stderr)


_unfinished: set[Future[None]] = set()
os.register_at_fork(after_in_child=_unfinished.clear)


def _finish() -> None:
    concurrent.futures.wait(set(_unfinished))


# At the end of a program Python forbids new work for every executor first, those inside of Orbax too, and
# then waits for ours, which fails. So we wait before. Python has no public hook that runs so early:
# https://github.com/python/cpython/issues/86813
threading._register_atexit(_finish)  # pyright: ignore[reportAttributeAccessIssue]
