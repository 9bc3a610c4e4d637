"""What process 0 does for all: its result, and its error, come to every process."""

import builtins
from collections.abc import Callable
from typing import Any

from fourbeat.distributed.agreement import broadcast
from fourbeat.distributed.runtime import num_processes, speaks


def first_does(work: Callable[[], Any], *, topic: str = "main") -> Any:
    """Does the work on process 0 alone. Every process gets the result.

    Args:
      work: a function; its result is what `json` can write.
      topic: as in `broadcast`.

    Returns:
      The result. On the other processes a tuple comes as a list.

    Raises:
      Exception: what `work` raised on process 0; on the other processes one of the same class and text, or a
        `RuntimeError` with both where the class is none of Python's own.

    >>> first_does(lambda: 3)
    3
    """
    if num_processes() == 1:
        return work()
    result, error = None, None
    if speaks():
        try:
            result = work()
        except Exception as raised:
            error = raised
    told = None if error is None else [type(error).__name__, str(error)]
    try:
        result, told = broadcast([result, told], topic=topic)
    finally:
        if error is not None:
            raise error
    if told is not None:
        raise _as_raised(*told)
    return result


def _as_raised(name: str, text: str) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text)
        except TypeError:  # it takes more than a text
            pass
    return RuntimeError(f"{name}: {text}")
