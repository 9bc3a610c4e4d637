"""One trace of a function, as `jax.jit` would make it, unseen by any cache."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from fourbeat.objects.retracing import retracing
from fourbeat.purity.programs import Program
from fourbeat.purity.target import Target, is_traceable


class Arguments:
    """Arguments split into what is traced and what stays a Python value.

    Args:
      args: positional arguments; arrays, shapes, tracers and numbers are traced.
      keywords: keyword arguments.
      fixed_numbers: keep Python numbers as they are, for functions that need their values.
    """

    def __init__(self, args: tuple[Any, ...], keywords: Mapping[str, Any], *, fixed_numbers: bool = False):
        self.args = args
        self.keywords = dict(keywords)
        self.leaves, self._structure = jax.tree.flatten((args, self.keywords))
        fixed = (bool, int, float, complex) if fixed_numbers else ()
        self._traced = [
            i
            for i, leaf in enumerate(self.leaves)
            if is_traceable(leaf) and not (fixed and isinstance(leaf, fixed))
        ]

    @property
    def traced(self) -> list[Any]:
        """The leaves that are traced."""
        return [self.leaves[i] for i in self._traced]

    @property
    def has_numbers(self) -> bool:
        """Whether a Python number is among the traced leaves."""
        return any(isinstance(leaf, (bool, int, float, complex)) for leaf in self.traced)

    def abstract(self) -> "Arguments":
        """The same with shapes in place of tracers, which must not outlive their trace."""
        leaves = [_abstract(leaf) for leaf in self.leaves]
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

    def rebuilt(self, arrays: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """New containers around `arrays`, as `jax.jit` hands them to the function."""
        leaves = list(self.leaves)
        for position, array in zip(self._traced, arrays, strict=True):
            leaves[position] = array
        return jax.tree.unflatten(self._structure, leaves)


Watch = Callable[[tuple[Any, ...], dict[str, Any]], Any]


def trace(target: Target, arguments: Arguments, around: Watch) -> Program:
    """Traces `target` once.

    Args:
      target: what to trace.
      arguments: what to trace it with; no value of theirs is read.
      around: called with the rebuilt arguments inside the trace; a generator-based context manager
        factory, entered around the call, to which the result is sent by `.out`.
    """
    seen: list[Any] = []

    def run(*arrays: Any) -> list[Any]:
        args, keywords = arguments.rebuilt(arrays)
        with around(args, keywords) as watch:
            out = target.call(*args, **keywords)
        watch.finish(out)
        seen.append(out)
        return [leaf for leaf in jax.tree.leaves(out) if _is_result(leaf)]

    with retracing():
        jaxpr = jax.make_jaxpr(run)(*map(_abstract, arguments.traced))
    return Program(jaxpr, seen[-1])


def _abstract(leaf: Any) -> Any:
    if isinstance(leaf, Tracer):
        aval = jax.typeof(leaf)
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)
    return leaf


def _is_result(leaf: Any) -> bool:
    kinds = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)
    return isinstance(leaf, kinds) and not (isinstance(leaf, np.ndarray) and leaf.dtype.kind in "OUS")
