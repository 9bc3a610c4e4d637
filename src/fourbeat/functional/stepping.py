"""The two orders of results: a method returns `(out, state)`, a step returns `(state, out)`."""

import functools
from collections.abc import Callable
from typing import Any

from fourbeat.types import StepFunction


def as_step(method: Callable[..., tuple[Any, Any]]) -> StepFunction:
    """A step, as `jax.lax.scan` and `fourbeat.compile` take it, from a method made pure.

    Args:
      method: `(state, *args) -> (out, state)`.

    Returns:
      `(state, *args) -> (state, out)`.

    >>> step = as_step(lambda state, x: (state + x, state + 1))
    >>> step(0, 10)
    (1, 10)
    """

    @functools.wraps(method, assigned=("__name__", "__qualname__", "__doc__"), updated=())
    def step(state: Any, *args: Any, **keywords: Any) -> tuple[Any, Any]:
        out, state = method(state, *args, **keywords)
        return state, out

    return step
