"""A traced function in one program, with the bits that it gives when its operations run one by one."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from fourbeat.types import Object


def literals_of(program: core.ClosedJaxpr) -> list[Any]:
    """The floating-point numbers that the operations of a trace are written with, in their order."""
    return [each.val for equation in program.jaxpr.eqns for each in equation.invars if _is_number(each)]


def one_by_one(program: core.ClosedJaxpr, always: jax.Array, literals: Sequence[Any]) -> list[jax.Array]:
    """The outputs of a traced function without arguments, bit for bit as its operations give them alone.

    Within one program XLA joins operations: it divides by a constant by multiplying, multiplies two constants
    first, or contracts a product and a sum, and the last bit differs. So no number is a constant here, and
    what one operation takes from another comes out of a conditional whose condition only a run can tell. A
    call of a compiled function is one operation, as it is alone.

    Args:
      program: the trace.
      always: bool scalar, True, which the compiled program must not know.
      literals: from `literals_of`, which the compiled program must not know.

    >>> make = lambda: 0.1 * jax.random.normal(jax.random.key(0), (4,)) + 1.0
    >>> program = jax.make_jaxpr(make)()
    >>> made = jax.jit(one_by_one, static_argnums=0)(program, True, literals_of(program))
    >>> bool((made[0] == make()).all())
    True
    """
    numbers, debug = iter(literals), program.jaxpr.debug_info.with_unknown_names()
    values: dict[Any, Any] = dict(zip(program.jaxpr.constvars, program.consts, strict=True))

    def read(variable: Object) -> Any:
        return variable.val if isinstance(variable, core.Literal) else values[variable]

    for equation in program.jaxpr.eqns:
        taken = [
            next(numbers) if _is_number(each) else _kept_apart(read(each), always) for each in equation.invars
        ]
        given = _run(equation, taken, debug)
        values.update(zip(equation.outvars, given, strict=True))
    return [read(variable) for variable in program.jaxpr.outvars]


def _run(equation: core.JaxprEqn, values: list[Any], debug: Object) -> list[Any]:
    called = equation.params.get("jaxpr")
    if equation.primitive.name in ("jit", "pjit") and isinstance(called, core.ClosedJaxpr):
        return core.jaxpr_as_fun(called)(*values)
    by_variable = {
        variable: value
        for variable, value in zip(equation.invars, values, strict=True)
        if not isinstance(variable, core.Literal)
    }
    if not any(isinstance(each, core.Literal) for each in equation.invars) or _holds_programs(equation):
        alone = core.Jaxpr([], [*by_variable], equation.outvars, [equation], equation.effects, debug)
        return core.jaxpr_as_fun(core.ClosedJaxpr(alone, []))(*by_variable.values())
    given = equation.primitive.bind(*values, **equation.params)
    return given if equation.primitive.multiple_results else [given]


def _holds_programs(equation: core.JaxprEqn) -> bool:
    kinds = (core.Jaxpr, core.ClosedJaxpr, tuple)
    return any(isinstance(value, kinds) and "jaxpr" in name for name, value in equation.params.items())


def _is_number(variable: Object) -> bool:
    return isinstance(variable, core.Literal) and jnp.issubdtype(jnp.result_type(variable.val), jnp.inexact)


def _kept_apart(value: Object, always: jax.Array) -> Any:
    value = jnp.asarray(value) if isinstance(value, float) else value
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        return value
    return lax.cond(always, lambda kept: kept, jnp.zeros_like, value)
