"""How many classes a loss tells apart: the length of the axis that its labels index."""

from typing import Any

import jax.numpy as jnp
from jax.extend import core


def indexed_length(jaxpr: core.Jaxpr, labels: set[Any]) -> int | None:
    """The least length of an axis that values made of `labels` index; None where they index none.

    Labels index by a gather, such as `logits[rows, labels]` and `take_along_axis`, or by comparison with
    `arange(C)`, as `one_hot` does.

    Args:
      jaxpr: of the loss.
      labels: variables of it that hold labels.
    """
    derived, iotas, lengths = set(labels), {}, []
    for equation in jaxpr.eqns:
        inputs = [atom for atom in equation.invars if isinstance(atom, core.Var)]
        if equation.primitive.name == "iota":
            iotas[equation.outvars[0]] = equation.params["shape"][equation.params["dimension"]]
        if not derived.intersection(inputs):
            continue
        inner = equation.params.get("jaxpr")
        inner = getattr(inner, "jaxpr", inner)
        if inner is not None and len(inner.invars) == len(equation.invars):
            passed = zip(equation.invars, inner.invars, strict=True)
            handed = {to for given, to in passed if isinstance(given, core.Var) and given in derived}
            lengths.append(indexed_length(inner, handed))
        elif equation.primitive.name == "gather" and equation.invars[1] in derived:
            axes = equation.params["dimension_numbers"].start_index_map
            operand: Any = equation.invars[0].aval
            lengths.append(operand.shape[axes[-1]])
        elif equation.primitive.name == "eq":
            lengths.extend(iotas[atom] for atom in inputs if atom in iotas)
        derived.update(out for out in equation.outvars if _is_integer(out.aval))
    return min((length for length in lengths if length is not None), default=None)


def _is_integer(aval: Any) -> bool:
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.integer)
