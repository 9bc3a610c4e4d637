"""Row independence: a proof, on traced programs, that the rows of a batch do not see each other.

The function is traced twice, for a whole batch and for a share of its rows. The two programs are read side by
side. An axis that has another length in the second is an axis of rows; each operation has a rule that says
whether it keeps what belongs to a row in the place of that row. An operation without a rule proves nothing,
and a number that differs between the two programs was made of the number of rows.

So a proof says: the second program on each share, its outputs put together, is the first on the whole.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core

from fourbeat.shard.row_kinds import (
    MEAN,
    SUM,
    WHOLE,
    Call,
    Count,
    Given,
    Kind,
    Rows,
    RowsInteractError,
    fits,
    paired,
)
from fourbeat.shard.row_rules import RULES
from fourbeat.types import Object, Tree


def kinds_of_outputs(function: Callable, whole: tuple, share: tuple) -> Tree:
    """How each output of a function depends on the rows of its arguments, in a tree like its outputs.

    Args:
      function: takes and returns pytrees of arrays.
      whole: shapes and dtypes of its arguments. One with rows has them on its first axis.
      share: the same for a share of the rows.

    Raises:
      RowsInteractError: there is no proof.

    >>> rows = lambda num: jax.ShapeDtypeStruct((num, 3), "float32")
    >>> kinds_of_outputs(lambda x: (x**2).sum(1), (rows(8),), (rows(2),))
    Rows(axis=0, num_inner=1)
    >>> kinds_of_outputs(lambda x: x - x.mean(0), (rows(8),), (rows(2),))
    Traceback (most recent call last):
    fourbeat.shard.row_kinds.RowsInteractError: sub of a sum over the rows
    """
    first, shapes = jax.make_jaxpr(function, return_shape=True)(*whole)
    second = jax.make_jaxpr(function)(*share)
    lengths = {
        (one.shape[0], other.shape[0])
        for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(share), strict=True)
        if one.shape != other.shape
    }
    of_a_row = [[leaf.shape[1:] for leaf in jax.tree.leaves(each)] for each in (whole, share)]
    if len(lengths) != 1 or of_a_row[0] != of_a_row[1]:
        raise RowsInteractError("no argument has rows, or they have different numbers of them")
    kinds = _Proof(*lengths.pop()).of_program(first, second, None)
    given = [_given(first.jaxpr, variable) for variable in first.jaxpr.outvars]
    kinds = [other if kind is WHOLE and other else kind for kind, other in zip(kinds, given, strict=True)]
    return jax.tree.structure(shapes).unflatten(kinds)


class _Proof:
    def __init__(self, num_rows: int, num_of_share: int):
        self._num = (num_rows, num_of_share)

    def of_program(self, one: Any, other: Any, given: list[Kind] | None) -> list[Kind]:
        """The kinds of a program's outputs, of those of its inputs; None asks the shapes, axis 0 has rows."""
        consts = [
            _of_constant(*each) for each in paired(getattr(one, "consts", ()), getattr(other, "consts", ()))
        ]
        one, other = getattr(one, "jaxpr", one), getattr(other, "jaxpr", other)
        if one.effects or other.effects:
            raise RowsInteractError(f"the effect {next(iter(one.effects or other.effects))}")
        kinds: dict[Any, Kind] = dict(paired(one.constvars, consts))
        for i, (a, b) in enumerate(paired(one.invars, other.invars)):
            of_shape = WHOLE if a.aval.shape == b.aval.shape else Rows(0)
            kinds[a] = of_shape if given is None else given[i]
        names: dict[Any, Any] = dict(paired([*one.constvars, *one.invars], [*other.constvars, *other.invars]))
        self._read(one, other, kinds, names)
        return [self._kind(a, b, kinds, names) for a, b in paired(one.outvars, other.outvars)]

    def _read(self, one: Any, other: Any, kinds: dict, names: dict) -> None:
        for a, b in paired(_needed(one), _needed(other)):
            if a.primitive is not b.primitive:
                raise RowsInteractError(f"{a.primitive} is {b.primitive} for another number of rows")
            of_inputs = [self._kind(x, y, kinds, names) for x, y in paired(a.invars, b.invars)]
            call = Call(
                a.primitive.name, a.params, b.params, of_inputs,
                _shapes(a.invars), _shapes(b.invars), _shapes(a.outvars), _shapes(b.outvars),
                self._num, self.of_program,
            )  # fmt: skip
            rule = RULES.get(call.name)
            if rule is None:
                raise RowsInteractError(f"{call.name} has no rule")
            found = rule(call)
            for x, y, kind in zip(a.outvars, b.outvars, found, strict=True):
                call.needs(fits(x.aval.shape, y.aval.shape, kind, self._num))
                call.needs(x.aval.dtype == y.aval.dtype, "of another dtype for another number of rows")
                is_cut = call.name in ("convert_element_type", "div") and not jnp.issubdtype(
                    x.aval.dtype, jnp.inexact
                )
                call.needs(not (is_cut and kind in (SUM, MEAN)), "cuts a sum over the rows to a whole number")
                kinds[x], names[x] = kind, y

    def _kind(self, a: Any, b: Any, kinds: dict, names: dict) -> Kind:
        if isinstance(a, core.Literal) and isinstance(b, core.Literal):
            return _of_constant(a.val, b.val)
        if isinstance(a, core.Literal) or isinstance(b, core.Literal) or names.get(a) is not b:
            raise RowsInteractError("the program is another one for another number of rows")
        return kinds[a]


def _given(jaxpr: core.Jaxpr, variable: Any) -> Given | None:
    """The argument that an output is; a key is one too where it was wrapped and unwrapped."""
    made_by = {out: equation for equation in jaxpr.eqns for out in equation.outvars}
    for name in ("random_unwrap", "random_wrap"):
        equation = None if isinstance(variable, core.Literal) else made_by.get(variable)
        if equation is not None and equation.primitive.name == name:
            variable = equation.invars[0]
    return Given(jaxpr.invars.index(variable)) if variable in jaxpr.invars else None


def _shapes(variables: Any) -> list[tuple[int, ...]]:
    return [variable.aval.shape for variable in variables]


def _needed(jaxpr: Any) -> Iterator[Any]:
    """The operations of which an output takes something."""
    live, needed = {id(var) for var in jaxpr.outvars}, []
    for equation in reversed(jaxpr.eqns):
        if any(id(var) in live for var in equation.outvars):
            needed.append(equation)
            live |= {id(var) for var in equation.invars}
    return reversed(needed)


def _of_constant(one: Object, other: Object) -> Kind:
    if isinstance(one, Tracer) or isinstance(other, Tracer):
        raise RowsInteractError("it takes a value from a trace around it")
    if one is other:
        return WHOLE
    if np.shape(one) != np.shape(other):
        raise RowsInteractError("a constant has the shape of the rows")
    if jnp.issubdtype(getattr(one, "dtype", np.result_type(one)), jax.dtypes.extended):
        raise RowsInteractError("random numbers")
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype == other.dtype and one.tobytes() == other.tobytes():
        return WHOLE
    if one.shape == () and np.issubdtype(one.dtype, np.number):
        return Count(float(one), float(other))
    raise RowsInteractError("a constant differs with the number of rows")
