"""One piece of work at a time, off the main thread; its failure comes back to whoever asks next."""

import sys
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """Runs functions in one thread, one after the other.

    >>> background = Background()
    >>> background.start(lambda: 1 / 0)
    >>> background.wait()
    Traceback (most recent call last):
    ZeroDivisionError: division by zero
    >>> background.wait()
    >>> background.close()
    """

    def __init__(self) -> None:
        # One thread that stays: starting a thread waits for it to run, for milliseconds on busy cores.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="fourbeat-checkpoints")
        self._unseen: list[Future[None]] = []
        weakref.finalize(self, _print_failures, self._unseen)

    def start(self, work: Callable[[], None]) -> None:
        """Hands `work` to the thread. Call `wait` before, or its failure is not told apart."""
        self._unseen.append(self._executor.submit(work))

    def wait(self) -> None:
        """Waits for the work begun last, and raises what it raised, once."""
        while self._unseen:
            failure = self._unseen[0].exception()
            self._unseen.pop(0)
            if failure is not None:
                raise failure

    def close(self) -> None:
        """Waits, raises, and lets the thread end."""
        self._executor.shutdown(wait=True)
        self.wait()


def _print_failures(unseen: list[Future[None]]) -> None:
    """At the end of a program that did not wait: a failure must not pass in silence."""
    for future in unseen:
        if future.done() and (failure := future.exception()) is not None:
            print(f"fourbeat: {failure}", file=sys.stderr)
