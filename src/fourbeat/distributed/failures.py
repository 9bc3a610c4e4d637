"""An error that ends a training: which process prints it, and how the others hear of it."""

import sys
from typing import Any

from fourbeat.distributed.runtime import num_processes, speaks

_TOPIC = "errors"
_WAIT_S = 2.0  # for the other processes to come with the same error


def is_to_be_printed(error: BaseException) -> bool:
    """Whether this process prints an error that ends its training; the others are told of it.

    An error that every process meets at the same place, such as that of a flag, is printed by process 0. One
    that they do not share ends all of them, and both this process and process 0 print it.

    Args:
      error: what ends the training on this process. It is told once, however often it passes by here.

    >>> is_to_be_printed(ValueError("--steps is 0"))
    True
    """
    if num_processes() == 1:
        return True
    known = getattr(error, "_fourbeat_is_to_be_printed", None)
    if known is None:
        is_shared = _is_everywhere(error)
        if not is_shared and (watching := _watching()) is not None:
            watching.failed(error)
        known = speaks() or not is_shared
        error._fourbeat_is_to_be_printed = known  # pyright: ignore[reportAttributeAccessIssue]
    return known


def _is_everywhere(error: BaseException) -> bool:
    from fourbeat.distributed.agreement import PeerError, gather  # loads JAX, which has joined the processes

    watching = _watching()
    if isinstance(error, PeerError) or (watching is not None and watching.known_failure() is not None):
        return False
    told = [type(error).__name__, str(error)]
    try:
        return all(each == told for each in gather(told, topic=_TOPIC, timeout_s=_WAIT_S))
    except PeerError:
        return False


def _watching() -> Any:
    """The module that tells the others; None where nobody is watched."""
    return sys.modules.get("fourbeat.distributed.watching")
