"""Output that has no reader any more: the program drops it, is told about it, and goes on."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fourbeat.types import Object


@contextlib.contextmanager
def noticed(on_lost: Callable[[], None]) -> Iterator[None]:
    """Drops output that cannot be written to standard output or standard error, instead of raising.

    This happens after `| head`, where the reader leaves, and after a terminal was closed. Without this, the
    next `print` would raise, in the middle of a step's body.

    Args:
      on_lost: called when output is lost, once for each of the two streams.
    """
    before = sys.stdout, sys.stderr
    guarded: list[Any] = [None if stream is None else _Guarded(stream, on_lost) for stream in before]
    sys.stdout, sys.stderr = guarded
    try:
        yield
    finally:
        for name, mine, earlier in zip(("stdout", "stderr"), guarded, before, strict=True):
            if mine is not None:
                mine.flush()
            if getattr(sys, name) is mine:  # another stream may be set by now
                setattr(sys, name, earlier)


def drop(stream: Object) -> None:
    """Drops everything that is still written to a stream, and the content of its buffer."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Guarded:
    """A text stream whose failing writes are dropped."""

    def __init__(self, stream: Object, on_lost: Callable[[], None]):
        self._stream, self._on_lost = stream, on_lost

    def write(self, text: str) -> int:
        return self._attempt(lambda: self._stream.write(text), len(text))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._attempt(self._stream.flush, None)

    def _attempt(self, call: Callable[[], Any], otherwise: Object) -> Any:
        try:
            return call()
        except OSError:
            drop(self._stream)
            self._on_lost()
            return otherwise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
