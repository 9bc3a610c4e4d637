"""How many programs XLA has compiled in this thread, and of which function the last one is."""

import threading
from typing import Any

import jax

from fourbeat.compiling.compilation_monitor import BACKEND, plain_name


class CompiledPrograms(threading.local):
    """What this thread has compiled so far.

    Attributes:
      total: the number of programs.
      last: the name of the function that was compiled last.

    >>> def halve(x):
    ...     return x / 2
    >>> before = compiled_programs.total
    >>> _ = jax.jit(halve)(1.0)
    >>> compiled_programs.total > before, compiled_programs.last
    (True, 'halve')
    """

    def __init__(self) -> None:
        self.total = 0
        self.last = ""


compiled_programs = CompiledPrograms()


def _count(event: str, duration_secs: float, **kwargs: Any) -> None:
    if event == BACKEND:
        compiled_programs.total += 1
        compiled_programs.last = plain_name(str(kwargs.get("fun_name")))


jax.monitoring.register_event_duration_secs_listener(_count)
