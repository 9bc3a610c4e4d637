"""The arguments of a function that is traced: what becomes a tracer, and what stays a Python value."""

import inspect
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from fourbeat.types import Args, Keywords, Object

_NUMBERS = (bool, int, float, complex, np.generic)


class Arguments:
    """Arguments split into what is traced and what stays a Python value.

    Args:
      args: positional arguments; arrays, shapes, tracers and numbers are traced.
      keywords: keyword arguments.
      fixed_numbers: keep numbers as they are, for functions that need their values.
    """

    def __init__(self, args: Args, keywords: Keywords, *, fixed_numbers: bool = False):
        self.args = args
        self.keywords = dict(keywords)
        self.leaves, self._structure = jax.tree.flatten((args, self.keywords))
        self._traced = [
            i
            for i, leaf in enumerate(self.leaves)
            if is_traceable(leaf) and not (fixed_numbers and isinstance(leaf, _NUMBERS))
        ]

    @property
    def traced(self) -> list[Any]:
        """The leaves that are traced."""
        return [self.leaves[i] for i in self._traced]

    @property
    def has_numbers(self) -> bool:
        """Whether a number is among the traced leaves."""
        return any(isinstance(leaf, _NUMBERS) for leaf in self.traced)

    def abstract(self) -> "Arguments":
        """The same arguments with shapes in place of tracers: tracers must not outlive their trace."""
        leaves = [abstract(leaf) for leaf in self.leaves]
        args, keywords = jax.tree.unflatten(self._structure, leaves)
        return Arguments(args, keywords, fixed_numbers=True)

    def accepts(self, given: "Arguments") -> bool:
        """Whether `given` has this structure, the same shapes and dtypes, and equal fixed values."""
        if given._structure != self._structure:
            return False
        for i, (own, other) in enumerate(zip(self.leaves, given.leaves, strict=True)):
            if i in self._traced:
                if not is_traceable(other):
                    return False
                aval = jax.typeof(other)
                if (own.shape, own.dtype) != (aval.shape, aval.dtype):
                    return False
            elif own is not other and own != other:
                return False
        return True

    def rebuilt(self, arrays: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """New containers around `arrays`, as `jax.jit` hands them to the function."""
        leaves = list(self.leaves)
        for position, array in zip(self._traced, arrays, strict=True):
            leaves[position] = array
        return jax.tree.unflatten(self._structure, leaves)


def positional_names(function: Object) -> list[str]:
    """The names of a function's positional parameters; none if it has no signature.

    >>> positional_names(lambda x, /, y, *rest, z: None), positional_names(print.__call__)
    (['x', 'y'], [])
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in parameters if each.kind in kinds]


def is_traceable(leaf: Object) -> bool:
    """Whether a leaf of the arguments is traced; other leaves stay Python values."""
    return isinstance(leaf, jax.ShapeDtypeStruct) or is_result(leaf)


def abstract(leaf: Object) -> Object:
    """A leaf with the shape and dtype in place of a tracer."""
    if isinstance(leaf, Tracer):
        aval = jax.typeof(leaf)
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)
    return leaf


def is_result(leaf: Object) -> bool:
    """Whether a compiled function can return a leaf."""
    if isinstance(leaf, np.ndarray):
        return leaf.dtype.kind not in "OUS"
    return isinstance(leaf, (jax.Array, *_NUMBERS))
