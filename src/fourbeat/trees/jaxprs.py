"""Traced programs: their equations, those of the calls inside included, and what a tracer was made for."""

from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core


def equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """Every equation, in order, each call before what is inside of it.

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


def traced_for(leaf: Any) -> str | None:
    """What a tracer was made for, such as "jit" or "scan", where JAX says so."""
    frame = getattr(getattr(leaf, "_trace", None), "frame", None)
    return getattr(getattr(frame, "debug_info", None), "traced_for", None)


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)
