"""A `jax.jit` that checks what it traces, and runs no Python of ours in a call that is compiled already."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from fourbeat.purity.captures import Capture
from fourbeat.purity.examining import examine
from fourbeat.purity.target import resolve
from fourbeat.trees.arguments import Arguments
from fourbeat.types import Object


def jit(fn: Object, *, allow: Sequence[str] = (), guard: bool = False, **options: Any) -> Callable[..., Any]:
    """`jax.jit(fn)` that raises, when it compiles, for what compiling would lose.

    The check runs while JAX traces, that is, on cache misses only. A hit runs no Python of ours.

    Args:
      fn: as for `check`.
      allow: paths whose changes are benign, with all below them.
      guard: for debugging: compares before every call what the function captured with what that was
        when it was compiled. This reads everything that the function reaches.
      **options: of `jax.jit`.

    Returns:
      The jitted function; with `guard`, a Python function around it.

    Raises:
      ImpureError: from a call that compiles, where the check finds errors.
      StaleReadError: from a call under `guard`, where a captured value has changed.

    >>> double = jit(lambda x: 2 * x)
    >>> float(double(1.5))
    3.0
    """
    target = resolve(fn)
    captures: list[Capture] = []

    @functools.wraps(fn, updated=())
    def checked(*args: Any, **keywords: Any) -> Any:
        # a Python number that arrives here was made static: the others are tracers
        arguments = Arguments(args, keywords, fixed_numbers=True)
        examine(target, arguments, allow).raise_if_bad()
        out = target.call(*args, **keywords)
        if guard:
            captures.append(Capture(target, arguments.abstract(), allow))
        return out

    checked.__dict__["__unchecked__"] = fn
    compiled = jax.jit(checked, **options)
    if not guard:
        return compiled

    @functools.wraps(fn, updated=())
    def guarded(*args: Any, **keywords: Any) -> Any:
        given = Arguments(args, keywords)
        for capture in captures:
            if capture.serves(given):
                capture.raise_if_stale()
        return compiled(*args, **keywords)

    guarded.__dict__["__unchecked__"] = fn
    return guarded
