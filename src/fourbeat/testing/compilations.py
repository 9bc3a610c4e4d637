"""An assertion on how many programs XLA compiles: the law of one compilation."""

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax

from fourbeat.compiling.compilation_monitor import BACKEND, plain_name


@contextlib.contextmanager
def expect_compilations(n: int, *, of: str | None = None) -> Iterator[list[str]]:
    """Passes where XLA compiles exactly `n` programs while the block runs.

    Functions that you compile count, with `jax.jit`, `nnx.jit`, `fourbeat.compile` or what is built on them,
    and so do the steps of evaluators and predictors. The small programs that JAX makes of single operations
    (`jnp.where`, `x + 1` outside of a compiled function) do not count, nor do those that fourbeat needs
    to start a state or to compute a metric. A program that comes out of JAX's cache on disk counts: a new
    process would compile it.

    Args:
      n: how many. A whole run compiles its step once, and an evaluation in it once.
      of: count only programs of functions with this name.

    Yields:
      The names of the compiled functions so far, in order.

    Raises:
      AssertionError: there were more or fewer; the text has their names.

    >>> @jax.jit
    ... def double(x):
    ...     return 2 * x
    >>> with expect_compilations(1):
    ...     for _ in range(10):
    ...         _ = double(1.0)
    """
    names: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: Any) -> None:
        name = plain_name(str(kwargs.get("fun_name")))
        if event == BACKEND and _is_counted(sys._getframe(1)) and of in (None, name):
            names.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    if len(names) != n:
        what = f"compilation{'s' * (n != 1)}" + ("" if of is None else f" of {of}")
        counts = ", ".join(f"{name} {_times(times)}" for name, times in Counter(names).items())
        raise AssertionError(
            f"expected {n} {what}, and there {'was' if len(names) == 1 else 'were'} {len(names)}"
            f"{': ' if names else ''}{counts}." + (_REPAIR if len(names) > n else "")
        )


_REPAIR = (
    "\nA program is compiled again when a shape, a dtype or a Python value of its arguments changes: "
    'fourbeat.compile(step, on_recompile="raise") names what changed.'
)


def _times(times: int) -> str:
    return "once" if times == 1 else f"{times} times"


def _is_counted(frame: FrameType | None) -> bool:
    """Whether the function that is being compiled is neither of JAX itself nor a helper of ours."""
    while frame is not None:
        function = frame.f_locals.get("fun") if frame.f_code.co_filename.endswith("pjit.py") else None
        if function is not None:
            return _is_of_a_user(function)
        frame = frame.f_back
    return True  # compiled ahead of time


def _is_of_a_user(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None) or ""
    if module.partition(".")[0] == "fourbeat":
        return not (function.__name__.startswith("_") or module.startswith("fourbeat.metrics."))
    return module.partition(".")[0] not in ("jax", "jaxlib")
