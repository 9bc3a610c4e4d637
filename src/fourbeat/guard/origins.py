"""Where bad numbers come from: a traced program, run one operation at a time."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from fourbeat.types import Object

_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2")


@dataclasses.dataclass(frozen=True)
class Origin:
    """The operation that made a value bad.

    Attributes:
      order: its place among all operations run.
      equation: the operation, with its name and source.
      made: "NaN" or "Inf".
    """

    order: int
    equation: core.JaxprEqn
    made: str


@dataclasses.dataclass(frozen=True)
class Value:
    """An array while a program runs, and what is known of its bad numbers.

    Attributes:
      array: the array.
      has_nan: whether it holds NaN.
      has_inf: whether it holds Inf.
      origin: what made them; None where they were given, or where there are none.
    """

    array: Any
    has_nan: bool = False
    has_inf: bool = False
    origin: Origin | None = None

    @property
    def is_bad(self) -> bool:
        """Whether it holds NaN or Inf."""
        return self.has_nan or self.has_inf


def first_origin(closed: core.ClosedJaxpr, *args: jax.Array) -> Origin | None:
    """The first operation that made a bad number, of those whose bad numbers reach the program's outputs.

    An operation made it where it is there and all its inputs are finite. An Inf that was given as a constant
    has no origin, but a NaN that is made from it has one.

    >>> closed = jax.make_jaxpr(lambda x: jnp.where(x > 0, jnp.log(x), 0) + jnp.exp(x))(jnp.zeros(2))
    >>> found = first_origin(closed, jnp.array([0.0, 100.0]))  # log(0) is masked
    >>> found.equation.primitive.name, found.made
    ('exp', 'Inf')
    """
    outs = _run(closed.jaxpr, map(_looked_at, closed.consts), map(_looked_at, args), itertools.count())
    return min((out.origin for out in outs if out.origin), key=lambda origin: origin.order, default=None)


def _run(
    jaxpr: core.Jaxpr, consts: Iterator[Value] | Sequence[Value], args: Any, order: Iterator[int]
) -> list[Value]:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    last_use = {var: n for n, e in enumerate(jaxpr.eqns) for var in e.invars if _is_var(var)}
    last_use |= {var: len(jaxpr.eqns) for var in jaxpr.outvars if _is_var(var)}
    read = lambda atom: values[atom] if _is_var(atom) else _looked_at(atom.val)
    for number, equation in enumerate(jaxpr.eqns):
        inputs = list(map(read, equation.invars))
        values.update(zip(equation.outvars, _outputs(jaxpr, equation, inputs, order), strict=True))
        for var in equation.invars:
            if isinstance(var, core.Var) and last_use[var] == number:
                values.pop(var, None)
    return list(map(read, jaxpr.outvars))


def _outputs(
    jaxpr: core.Jaxpr, equation: core.JaxprEqn, inputs: list[Value], order: Iterator[int]
) -> list[Value]:
    name, params = equation.primitive.name, equation.params
    if name in _CALLS:
        return _run_closed(params.get("call_jaxpr", params.get("jaxpr")), inputs, order)
    place = next(order)
    outs = list(map(_looked_at, _executed(jaxpr, equation, inputs)))
    if not any(out.is_bad for out in outs):
        return outs
    if name == "cond":
        return _run_closed(params["branches"][int(inputs[0].array)], inputs[1:], order)
    if name == "scan":
        return _run_scan(equation, inputs, order)
    if name == "while":
        return _run_while(params, inputs, order)
    return [_blamed(out, inputs, place, equation) for out in outs]


def _blamed(out: Value, inputs: list[Value], place: int, equation: core.JaxprEqn) -> Value:
    bad = [value for value in inputs if value.is_bad]
    origins = [value.origin for value in bad if value.origin is not None]
    if not out.is_bad:
        return out
    if origins:
        return dataclasses.replace(out, origin=min(origins, key=lambda origin: origin.order))
    if bad and not (out.has_nan and not any(value.has_nan for value in bad)):
        return out  # it was given
    return dataclasses.replace(out, origin=Origin(place, equation, "NaN" if out.has_nan else "Inf"))


def _run_closed(called: Object, inputs: list[Value], order: Iterator[int]) -> list[Value]:
    if isinstance(called, core.ClosedJaxpr):
        return _run(called.jaxpr, list(map(_looked_at, called.consts)), inputs, order)
    return _run(called, [], inputs, order)


def _run_scan(equation: core.JaxprEqn, inputs: list[Value], order: Iterator[int]) -> list[Value]:
    params: dict[str, Any] = equation.params
    body = params["jaxpr"].jaxpr
    num_xs = _num_stacked(equation.invars, body.invars)
    num_carry = len(body.outvars) - _num_stacked(equation.outvars, body.outvars)
    num_consts = len(inputs) - num_xs - num_carry
    consts, carry, xs = inputs[:num_consts], inputs[num_consts:][:num_carry], inputs[num_consts + num_carry :]
    places = range(params["length"])
    rows: list[list[Value]] = [[] for _ in body.outvars[num_carry:]]
    for place in reversed(places) if params["reverse"] else places:
        row = [dataclasses.replace(_looked_at(x.array[place]), origin=x.origin) for x in xs]
        outs = _run_closed(params["jaxpr"], [*consts, *carry, *row], order)
        carry = outs[:num_carry]
        for ys, y in zip(rows, outs[num_carry:], strict=True):
            ys.append(y)
    return [*carry, *(_stacked(ys[::-1] if params["reverse"] else ys) for ys in rows)]


def _num_stacked(outer: Sequence[Any], inner: Sequence[Any]) -> int:
    """How many arrays of a scan have one dimension more outside of its body: its xs, or its ys."""
    return sum(one.aval.ndim > other.aval.ndim for one, other in zip(outer, inner, strict=True))


def _run_while(params: dict[str, Any], inputs: list[Value], order: Iterator[int]) -> list[Value]:
    of_condition, of_body = params["cond_nconsts"], params["body_nconsts"]
    condition_consts, body_consts = inputs[:of_condition], inputs[of_condition:][:of_body]
    carry = inputs[of_condition + of_body :]
    while bool(_run_closed(params["cond_jaxpr"], [*condition_consts, *carry], order)[0].array):
        carry = _run_closed(params["body_jaxpr"], [*body_consts, *carry], order)
    return carry


def _stacked(values: list[Value]) -> Value:
    origins = [value.origin for value in values if value.origin is not None]
    first = min(origins, key=lambda origin: origin.order, default=None)
    return dataclasses.replace(_looked_at(jnp.stack([value.array for value in values])), origin=first)


def _looked_at(array: Object) -> Value:
    dtype = getattr(array, "dtype", None) or np.asarray(array).dtype
    if not jnp.issubdtype(dtype, jnp.inexact):
        return Value(array)
    return Value(array, bool(jnp.isnan(array).any()), bool(jnp.isinf(array).any()))


def _executed(jaxpr: core.Jaxpr, equation: core.JaxprEqn, inputs: list[Value]) -> list[Any]:
    """The outputs of one equation of a program, by itself."""
    arrays = {atom: v.array for atom, v in zip(equation.invars, inputs, strict=True) if _is_var(atom)}
    alone = jaxpr.replace(constvars=[], invars=list(arrays), outvars=list(equation.outvars), eqns=[equation])
    return core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))(*arrays.values())


def _is_var(atom: Object) -> bool:
    return isinstance(atom, core.Var)
