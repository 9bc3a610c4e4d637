"""Sums of half-precision values, accumulated in float32 everywhere in a program."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from fourbeat.types import Object

SUMS = frozenset(
    {
        "reduce_sum", "reduce_prod", "reduce_window_sum", "select_and_scatter_add", "scatter-add",
        "cumsum", "cumprod", "cumlogsumexp",
    }
)  # fmt: skip
_CALLS = frozenset({"jit", "pjit", "closed_call", "scan", "while", "cond", "checkpoint", "remat2"})


def sums_in_float32(function: Callable, look: Callable[[core.Jaxpr], None] | None = None) -> Callable:
    """The same function, but each half-precision sum is computed in float32 and rounded once.

    `jnp.sum` does this by itself. The sums that differentiation makes do not: the gradients of a bias and of
    an embedding are sums over examples in the dtype of the activations. In bfloat16, adding ones stops at
    256 (XLA on CPU gave 1024 for the 4000 below). So this traces the function and replaces each such
    equation, also in the calls inside it.

    Args:
      function: takes and returns pytrees of arrays.
      look: called once a trace, with the program as it was traced.

    >>> x = jnp.full((40_000, 1), 0.1, jnp.bfloat16)
    >>> total = lambda bias: (x * bias).astype(jnp.float32).sum()
    >>> float(jax.jit(sums_in_float32(jax.grad(total)))(jnp.ones(1, jnp.bfloat16))[0])
    4000.0
    """

    def summing(*args: Any) -> Any:
        others: list[Any] = []
        structures: list[Any] = []

        def arrays(*args: Any) -> list[jax.Array]:
            leaves, structure = jax.tree.flatten(function(*args))
            structures.append(structure)
            others[:] = [None if isinstance(leaf, jax.Array) else leaf for leaf in leaves]
            return [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

        closed = jax.make_jaxpr(arrays)(*args)
        if look is not None:
            look(closed.jaxpr)
        out = iter(core.jaxpr_as_fun(_wide_closed(closed))(*jax.tree.leaves(args)))
        leaves = [next(out) if other is None else other for other in others]
        return structures[-1].unflatten(leaves)

    return summing


def _wide_closed(closed: core.ClosedJaxpr) -> core.ClosedJaxpr:
    jaxpr = _wide(closed.jaxpr)
    return closed if jaxpr is closed.jaxpr else closed.replace(jaxpr=jaxpr)


def _wide(jaxpr: core.Jaxpr) -> core.Jaxpr:
    """The program with float32 sums; the same object if it has no half-precision sum: XLA lowers it once."""
    equations = [new for equation in jaxpr.eqns for new in _wide_equations(equation)]
    unchanged = len(equations) == len(jaxpr.eqns) and all(
        new is old for new, old in zip(equations, jaxpr.eqns, strict=True)
    )
    return jaxpr if unchanged else jaxpr.replace(eqns=equations)


def _wide_equations(equation: core.JaxprEqn) -> Iterator[core.JaxprEqn]:
    name = equation.primitive.name
    if name in SUMS and any(is_half(var.aval) for var in equation.outvars):
        yield from _summed_in_float32(equation)
    elif name in _CALLS:
        params = {key: _wide_param(value) for key, value in equation.params.items()}
        changed = any(params[key] is not value for key, value in equation.params.items())
        yield equation.replace(params=params) if changed else equation
    else:
        yield equation


def _wide_param(value: Object) -> Any:
    if isinstance(value, core.ClosedJaxpr):
        return _wide_closed(value)
    if isinstance(value, core.Jaxpr):
        return _wide(value)
    if isinstance(value, tuple) and any(isinstance(item, core.ClosedJaxpr) for item in value):
        wide = tuple(map(_wide_param, value))
        return value if all(new is old for new, old in zip(wide, value, strict=True)) else wide
    return value


def _summed_in_float32(equation: core.JaxprEqn) -> Iterator[core.JaxprEqn]:
    """The equations of the same sum with its half-precision inputs converted, and its outputs back."""
    params: dict[str, Any] = equation.params
    given: list[Any] = [atom.aval for atom in equation.invars]
    wanted: list[Any] = [var.aval for var in equation.outvars]

    def summed(*values: Object) -> list[jax.Array]:
        wide = [lax.convert_element_type(v, jnp.float32) if is_half(v) else v for v in values]
        if equation.primitive.name == "scatter-add":  # it holds its sum, traced in half precision, as well
            own = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
            operand, indices, updates = wide
            out: Object = lax.scatter_add(operand, indices, updates, **{name: params[name] for name in own})
        else:
            out = equation.primitive.bind(*wide, **params)
        outs = out if equation.primitive.multiple_results else [out]
        return [lax.convert_element_type(out, aval.dtype) for out, aval in zip(outs, wanted, strict=True)]

    traced = jax.make_jaxpr(summed)(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in given)).jaxpr
    place = dict(zip(traced.invars, equation.invars, strict=True))
    place |= dict(zip(traced.outvars, equation.outvars, strict=True))
    here = lambda atom: place.get(atom, atom) if isinstance(atom, core.Var) else atom
    for new in traced.eqns:
        yield new.replace(
            invars=list(map(here, new.invars)),
            outvars=list(map(here, new.outvars)),
            source_info=equation.source_info,
        )


def is_half(value: Object) -> bool:
    """Whether an array, or what stands for one, is floating-point of less than 32 bits."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
