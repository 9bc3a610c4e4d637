"""Convolutions: what makes vmapped members slow on a CPU."""

import warnings
from typing import Any

import jax
from flax import nnx

from fourbeat.trees.jaxprs import has_convolution
from fourbeat.types import Model


class SlowReplicasWarning(UserWarning):
    """Members with convolutions run as one vmapped step on a CPU, where XLA makes that slow."""


def convolves(model: Model) -> bool:
    """Whether a model seems to have convolutions: before a batch is there, only the model can tell.

    An NNX module has them where one of its parts is a convolution. Any other pytree has them where an
    array has four axes or more, as the kernel of a convolution over images has.

    >>> convolves(nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0))), convolves({"w": jax.numpy.ones((2, 2))})
    (True, False)
    """
    leaves = jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, nnx.Module))
    for leaf in leaves:
        if isinstance(leaf, nnx.Module):
            if any(isinstance(part, nnx.Conv | nnx.ConvTranspose) for _, part in nnx.iter_modules(leaf)):
                return True
        elif getattr(leaf, "ndim", 0) >= 4:
            return True
    return False


def warn_where_slow(program: Any, args: tuple) -> None:
    """Warns of a step with convolutions that is to be vmapped on a CPU. The trace is kept for the step."""
    if jax.default_backend() == "cpu" and has_convolution(program.trace(*args).jaxpr.jaxpr):
        warnings.warn(
            "the members are vmapped, and this step has convolutions: XLA on a CPU makes one grouped "
            "convolution of those of all members, which takes longer than each by itself. Step the members "
            "one after the other in one program: fb.replicas(..., vmapped=False).",
            SlowReplicasWarning,
            stacklevel=2,
        )
