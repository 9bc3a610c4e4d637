"""The optimizer's updates times `lr_scale`, as a smaller learning rate would give them."""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
from jax.extend import core

from fourbeat.types import Object

_OFFERED = ("value", "grad")  # to every transformation, asked for or not
_PRODUCTS = frozenset({"div", "dot_general", "mul"})
_LINEAR = frozenset(
    {"convert_element_type", "copy", "neg", "reshape", "slice", "split", "squeeze", "transpose"}
)


def scaled_updates(
    update: Callable, lr_scale: jax.Array, *args: Any, extra_args: dict[str, Any]
) -> tuple[Any, Any]:
    """`update(*args, **extra_args)`, the updates multiplied by a scalar; a scalar of 1 leaves every bit.

    The last operation of most optimizers is a product with the learning rate. XLA contracts it with the sum
    that follows, the new parameter, into one fused multiply-add. A further product would come between the
    two, which costs a bit. So the update is traced, and the scale goes into a factor of that product.

    Args:
      update: of an optax transformation: gives `(updates, opt_state)`.
      lr_scale: float32 scalar.
      args: of `update`: the gradients, the optimizer's state, the parameters.
      extra_args: by keyword. `value` and `grad` are left out where the transformation does not take them.

    Returns:
      `(updates, opt_state)`.

    >>> import jax.numpy as jnp, optax
    >>> tx = optax.with_extra_args_support(optax.sgd(0.5))
    >>> updates, _ = scaled_updates(tx.update, jnp.float32(2.0), jnp.ones(2), tx.init(0.0), extra_args={})
    >>> updates.tolist()
    [-1.0, -1.0]
    """
    structures: list[Any] = []

    def flat(args: Any) -> tuple[list[Any], list[Any]]:
        updates, opt_state = _with_what_it_takes(update, args, extra_args)
        (updates, of_updates), (others, of_others) = map(jax.tree.flatten, (updates, opt_state))
        structures[:] = [of_updates, of_others]
        return updates, others

    closed = jax.make_jaxpr(flat)(args)
    of_updates, of_others = structures
    num_updates = of_updates.num_leaves
    closed = _opened(closed, num_updates)
    scalings = _Scalings(closed.jaxpr)
    scaled = [scalings.of(out) for out in closed.jaxpr.outvars[:num_updates]]
    others = closed.jaxpr.outvars[num_updates:]
    values = core.jaxpr_as_fun(_giving(closed, [*scalings.read, *others]))(*jax.tree.leaves(args))
    num_read = len(scalings.read)
    updates = [scale(values[:num_read], lr_scale) for scale in scaled]
    return of_updates.unflatten(updates), of_others.unflatten(values[num_read:])


def _with_what_it_takes(update: Callable, args: tuple, extra_args: dict[str, Any]) -> Any:
    """The call; a transformation within may refuse what is offered, as `optax.contrib.sam` does."""
    try:
        return update(*args, **extra_args)
    except TypeError as error:
        refused = [name for name in _OFFERED if f"unexpected keyword argument '{name}'" in str(error)]
        if not extra_args.keys() & set(refused):
            raise
    return _with_what_it_takes(
        update, args, {name: value for name, value in extra_args.items() if name not in refused}
    )


def _opened(closed: core.ClosedJaxpr, num_updates: int) -> core.ClosedJaxpr:
    """The program with the calls that make updates opened, as XLA does before it contracts products."""
    while (call := _call_that_makes(closed.jaxpr, closed.jaxpr.outvars[:num_updates])) is not None:
        closed = _without_call(closed, call)
    return closed


def _call_that_makes(jaxpr: core.Jaxpr, outs: list[Any]) -> core.JaxprEqn | None:
    """A call whose last operation on one of the outputs could take the scale."""
    made = {atom for atom in outs if isinstance(atom, core.Var)}
    for equation in jaxpr.eqns:
        if not made.isdisjoint(equation.outvars) and (callee := _callee(equation)) is not None:
            inner = {id(var): each for each in callee.jaxpr.eqns for var in each.outvars}
            pairs = zip(equation.outvars, callee.jaxpr.outvars, strict=True)
            makers = [inner.get(id(result)) for out, result in pairs if out in made]
            if any(maker is not None and (_takes_scale(maker) or _callee(maker)) for maker in makers):
                return equation
    return None


def _takes_scale(equation: core.JaxprEqn) -> bool:
    return equation.primitive.name in _LINEAR | _PRODUCTS


def _callee(equation: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """The program that an equation always calls; None for any other equation."""
    if equation.primitive.name in ("jit", "pjit"):
        return equation.params["jaxpr"]
    if equation.primitive.name == "cond" and isinstance(equation.invars[0], core.Literal):
        return equation.params["branches"][int(equation.invars[0].val)]
    return None


def _without_call(closed: core.ClosedJaxpr, call: core.JaxprEqn) -> core.ClosedJaxpr:
    """The same program with the equations of a call's program in place of the call."""
    callee = _callee(call)
    assert callee is not None
    fresh = jax.make_jaxpr(core.jaxpr_as_fun(callee))(*callee.in_avals)
    now: dict[Any, Any] = {}
    here = lambda atom: now.get(atom, atom) if isinstance(atom, core.Var) else atom
    equations = []
    for equation in closed.jaxpr.eqns:
        if equation is call:
            given = call.invars[len(call.invars) - len(fresh.jaxpr.invars) :]
            now.update(zip(fresh.jaxpr.invars, map(here, given), strict=True))
            equations += [each.replace(invars=list(map(here, each.invars))) for each in fresh.jaxpr.eqns]
            now.update(zip(call.outvars, map(here, fresh.jaxpr.outvars), strict=True))
        else:
            equations.append(equation.replace(invars=list(map(here, equation.invars))))
    jaxpr = closed.jaxpr.replace(
        constvars=[*closed.jaxpr.constvars, *fresh.jaxpr.constvars],
        eqns=equations,
        outvars=list(map(here, closed.jaxpr.outvars)),
    )
    return core.ClosedJaxpr(jaxpr, [*closed.consts, *fresh.consts])


Scaling: TypeAlias = Callable[[list[jax.Array], jax.Array], jax.Array]  # of the values read, and the scale


class _Scalings:
    """How outputs of a program are made again, times a scalar, from values inside of it.

    Attributes:
      read: the values inside that the scalings need, in their order.
    """

    def __init__(self, jaxpr: core.Jaxpr):
        self.read: list[Any] = []
        self._makers = {var: equation for equation in jaxpr.eqns for var in equation.outvars}

    def of(self, atom: Object) -> Scaling:
        """The scale goes into the factor of a last product, through what only moves or negates values."""
        maker = self._makers.get(atom) if isinstance(atom, core.Var) else None
        name = "" if maker is None else maker.primitive.name
        if maker is not None and name in _LINEAR:
            (operand,) = maker.invars
            return _again(maker, maker.outvars.index(atom), self.of(operand))
        if maker is not None and name == "mul":
            factor, last = sorted(maker.invars, key=self._is_scalar)
            if isinstance(last, core.Literal) and abs(last.val) == 1:
                return _times(self.of(factor), self._value(last))
            return _times(self._value(factor), self._scalar_times_scale(last))
        if maker is not None and name == "div" and self._is_scalar(maker.invars[1]):
            over, under = self._times_scale(maker.invars[0]), self._value(maker.invars[1])
            return lambda values, scale: over(values, scale) / under(values, scale)
        if maker is not None and name == "dot_general":
            left, right = self._times_scale(maker.invars[0]), self._value(maker.invars[1])
            return _again(maker, 0, left, right)
        return self._times_scale(atom)

    def _value(self, atom: Object) -> Scaling:
        place = len(self.read)
        self.read.append(atom)
        return lambda values, scale: values[place]

    def _times_scale(self, atom: Object) -> Scaling:
        value = self._value(atom)
        return lambda values, scale: value(values, scale) * scale.astype(value(values, scale).dtype)

    def _scalar_times_scale(self, atom: Object) -> Scaling:
        """The scale goes in front of constant factors, which XLA then joins with those of the gradient."""
        maker = self._makers.get(atom) if isinstance(atom, core.Var) else None
        varying = None if maker is None else _operand_to_scale(maker)
        if maker is None or varying is None:
            return self._times_scale(atom)
        operands = [
            self._scalar_times_scale(each) if each is varying else self._value(each) for each in maker.invars
        ]
        return _again(maker, maker.outvars.index(atom), *operands)

    def _is_scalar(self, atom: Object) -> bool:
        """Whether the value holds one number, broadcast or not."""
        if isinstance(atom, core.Literal) or atom.aval.size == 1:
            return True
        maker = self._makers.get(atom)
        return (
            maker is not None
            and maker.primitive.name == "broadcast_in_dim"
            and self._is_scalar(maker.invars[0])
        )


def _operand_to_scale(equation: core.JaxprEqn) -> Any | None:
    """The operand that may be scaled in place of the result: of a move, a constant factor, a sum with 0."""
    varying: list[Any] = [each for each in equation.invars if isinstance(each, core.Var)]
    constants = [each for each in equation.invars if isinstance(each, core.Literal)]
    if len(varying) != 1:
        return None
    (operand,), (result, *_), name = varying, cast(list[Any], equation.outvars), equation.primitive.name
    is_narrower = operand.aval.dtype.itemsize < result.aval.dtype.itemsize
    if is_narrower or not jnp.issubdtype(operand.aval.dtype, jnp.floating):
        return None
    moves = not constants and name in _LINEAR | {"broadcast_in_dim"}
    return operand if moves or name == "mul" or (name == "add" and constants[0].val == 0) else None


def _times(one: Scaling, other: Scaling) -> Scaling:
    return lambda values, scale: one(values, scale) * other(values, scale)


def _again(equation: core.JaxprEqn, place: int, *operands: Scaling) -> Scaling:
    """One output of an equation on other operands."""

    def scaled(values: list[jax.Array], scale: jax.Array) -> jax.Array:
        out = equation.primitive.bind(*(operand(values, scale) for operand in operands), **equation.params)
        return out[place] if equation.primitive.multiple_results else out

    return scaled


def _giving(closed: core.ClosedJaxpr, outvars: list[Any]) -> core.ClosedJaxpr:
    """The program with other outputs."""
    jaxpr = closed.jaxpr
    unnamed = jaxpr.debug_info._replace(result_paths=None)
    return closed.replace(jaxpr=jaxpr.replace(outvars=outvars, debug_info=unnamed))
