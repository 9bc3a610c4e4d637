"""Traced programs: a trace without caches, equations, constants, and the transformation of a tracer."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core

from fourbeat.types import Object

_context = jax.make_user_context(None)  # a part of every key of JAX's trace caches


def traced_anew(function: Callable[..., Any], *args: Any) -> core.ClosedJaxpr:
    """The program of a function, from a trace that takes no inner jit from a cache of JAX.

    >>> inner = jax.jit(lambda x: print("traced") or x)
    >>> for _ in range(2):
    ...     program = traced_anew(inner, 1.0)
    traced
    traced
    """
    with _context(object()):  # traces inside go to caches that are never read again
        return jax.make_jaxpr(lambda *given: function(*given))(*args)


def constants(jaxpr: core.ClosedJaxpr) -> list[Any]:
    """The arrays that a program captured, and those of the programs inside of it, each once."""
    return list({id(each): each for each in _constants(jaxpr)}.values())


def equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """Every equation in order. A call comes before the equations inside it.

    >>> import jax.numpy as jnp
    >>> traced = jax.make_jaxpr(jax.jit(lambda x: jnp.sin(x) + 1))(0.0)
    >>> [equation.primitive.name for equation in equations(traced.jaxpr)][1:]
    ['sin', 'add']
    """
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from equations(inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner)


def has_convolution(jaxpr: core.Jaxpr) -> bool:
    """Whether a program has a convolution, inside of a call too.

    >>> ones = jax.numpy.ones(3)
    >>> has_convolution(jax.make_jaxpr(lambda x: jax.numpy.convolve(x, x))(ones).jaxpr)
    True
    >>> has_convolution(jax.make_jaxpr(lambda x: x @ x)(ones).jaxpr)
    False
    """
    return any(equation.primitive.name == "conv_general_dilated" for equation in equations(jaxpr))


def reached(jaxpr: core.Jaxpr) -> list[bool]:
    """Whether each output of a program depends on one of its inputs.

    >>> reached(jax.make_jaxpr(lambda x: (2 * x, jax.numpy.ones(2)))(1.0).jaxpr)
    [True, False]
    """
    found = set(jaxpr.invars)
    for equation in jaxpr.eqns:
        if any(isinstance(atom, core.Var) and atom in found for atom in equation.invars):
            found.update(equation.outvars)
    return [isinstance(out, core.Var) and out in found for out in jaxpr.outvars]


def traced_for(leaf: Object) -> str | None:
    """The transformation that made a tracer, such as "jit" or "scan", if JAX tells it."""
    frame = getattr(getattr(leaf, "_trace", None), "frame", None)
    return getattr(getattr(frame, "debug_info", None), "traced_for", None)


def _constants(jaxpr: Any) -> Iterator[Any]:
    if hasattr(jaxpr, "consts"):
        yield from (each for each in jaxpr.consts if hasattr(each, "dtype") and hasattr(each, "shape"))
    for equation in jaxpr.eqns:
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
                if hasattr(inner, "eqns"):
                    yield from _constants(inner)


def _is_jaxpr(value: Object) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)
