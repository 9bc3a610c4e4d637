"""Whether a function convolves: found in its jaxpr, the calls inside it included."""

from collections.abc import Callable
from typing import Any

import jax

from fourbeat.trees.jaxprs import equations


def has_convolution(function: Callable, *args: Any) -> bool:
    """Whether tracing `function(*args)` meets a convolution.

    >>> has_convolution(lambda x: jax.numpy.convolve(x, x), jax.numpy.ones(3))
    True
    >>> has_convolution(lambda x: x @ x, jax.numpy.ones(3))
    False
    """
    traced = jax.make_jaxpr(function)(*args).jaxpr
    return any(equation.primitive.name == "conv_general_dilated" for equation in equations(traced))
