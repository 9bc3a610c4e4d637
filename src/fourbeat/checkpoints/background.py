"""One piece of work at a time, off the main thread; its failure comes back to whoever asks next."""

import sys
import threading
from collections.abc import Callable


class Background:
    """Runs a function in a thread.

    >>> background = Background()
    >>> background.start(lambda: 1 / 0)
    >>> background.wait()
    Traceback (most recent call last):
    ZeroDivisionError: division by zero
    >>> background.wait()
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Starts `work`. Only after `wait`: there is one thread."""
        self._thread = threading.Thread(target=self._run, args=(work,), name="fourbeat-checkpoints")
        self._thread.start()

    def wait(self) -> None:
        """Waits for the work begun last, and raises what it raised, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._failure = error
            if not threading.main_thread().is_alive():  # nobody is left to raise it to
                print(f"fourbeat: {error}", file=sys.stderr)
