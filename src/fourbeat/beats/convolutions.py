"""Whether a function convolves: found in its jaxpr, the calls inside it included."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def has_convolution(function: Callable, *args: Any) -> bool:
    """Whether tracing `function(*args)` meets a convolution.

    >>> has_convolution(lambda x: jax.numpy.convolve(x, x), jax.numpy.ones(3))
    True
    >>> has_convolution(lambda x: x @ x, jax.numpy.ones(3))
    False
    """
    return any(name == "conv_general_dilated" for name in _primitives(jax.make_jaxpr(function)(*args).jaxpr))


def _primitives(jaxpr: core.Jaxpr) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from _primitives(inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner)


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)
