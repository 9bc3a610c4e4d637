"""A logger that fails warns once, and training goes on. Of several processes, process 0 alone logs."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

from fourbeat.distributed import speaks
from fourbeat.types import Object


class LoggerWarning(UserWarning):
    """A logger failed, or cannot do what was asked of it. Training goes on."""


def warns_once(method: Callable[..., None]) -> Callable[..., None]:
    """The method, whose first failure warns and whose later ones are silent: training goes on.

    On processes other than process 0 it does nothing.
    """

    @functools.wraps(method)
    def attempt(self: Any, *args: Any, **kwargs: Any) -> None:
        if not speaks():
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                warn(self, error, stacklevel=3)

    return attempt


def warn(logger: Object, error: Exception, stacklevel: int) -> None:
    """Warns that a logger failed, and how."""
    warnings.warn(
        f"{_named(logger)} failed: {type(error).__name__}: {error}. Training goes on; it is called "
        "again each time, without a further warning.",
        LoggerWarning,
        stacklevel=stacklevel,
    )


def _named(logger: Object) -> str:
    try:
        return repr(logger)
    except Exception:  # a logger of the user's may raise anything, here too
        return type(logger).__name__
