"""Warnings for a precision that changes nothing, or reaches what it should not."""

import warnings
from typing import Any

import jax
from jax.extend import core

from fourbeat.precision.reductions import is_half
from fourbeat.trees.jaxprs import equations

PRODUCTS = ("dot_general", "conv_general_dilated")


class PrecisionWarning(UserWarning):
    """A precision was asked for that changes nothing, or one that reaches the loss."""


def warn_of_kept_layers(compute: str, kept: list[str]) -> None:
    """Warns that every layer of an NNX model keeps a dtype of its own; says nothing where `kept` is empty."""
    if kept:
        warnings.warn(
            f"precision {compute!r} changes no layer: each was built with a dtype of its own and "
            f"keeps it ({', '.join(kept[:4])}). Build the layers without dtype=.",
            PrecisionWarning,
            stacklevel=5,
        )


def warn_of_wide_products(compute: str, jaxpr: core.Jaxpr) -> None:
    """Warns where a traced step has products and none of them is in the dtype that was asked for."""
    dtypes = product_dtypes(jaxpr)
    if dtypes and compute not in dtypes:
        warnings.warn(
            f"precision {compute!r} changes no product: all {sum(dtypes.values())} are in "
            f"{', '.join(sorted(dtypes))}. In a model that is no NNX module only the parameters are cast. "
            "Cast what meets them, such as x = batch['x'].astype(model['w'].dtype), and what comes out back "
            "to float32 before the loss.",
            PrecisionWarning,
            stacklevel=2,
        )


def warn_of_half_loss(compute: str, items: jax.Array) -> None:
    """Warns where a loss function returned its loss in half precision."""
    if is_half(items):
        warnings.warn(
            f"precision {compute!r}: loss_fn computed its loss in {items.dtype}. Only what the model's own "
            "call returns is cast to float32: cast what the loss is made of, such as "
            "logits.astype(jnp.float32).",
            PrecisionWarning,
            stacklevel=2,
        )


def product_dtypes(jaxpr: core.Jaxpr) -> dict[str, int]:
    """How many products (matrix products and convolutions) a traced program has, by their inputs' dtype."""
    counts: dict[str, int] = {}
    for equation in equations(jaxpr):
        if equation.primitive.name in PRODUCTS:
            aval: Any = equation.invars[0].aval
            dtype = str(aval.dtype)
            counts[dtype] = counts.get(dtype, 0) + 1
    return counts
