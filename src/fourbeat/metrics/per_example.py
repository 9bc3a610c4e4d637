"""One value an example: the rule on the shape of a loss, and of what a metric's function returns."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fourbeat.types import Batch, Object


class CrossedExamplesWarning(UserWarning):
    """A loss, or what a metric's function returned, holds a value for every pair of examples."""


def check_one_value_an_example(
    what: str, shape: tuple[int, ...], columns: Batch, num_examples: int | None, again: Callable[[Any], Any]
) -> None:
    """Raises, or warns, where an array should hold one value an example, or one a token, and does not.

    Args:
      what: a name of the array, for the texts.
      shape: of the array; a scalar passes.
      columns: the pytree of arrays that it was computed from.
      num_examples: how many examples they hold; None, where nothing tells, passes.
      again: computes the array from other columns; it is called with more examples, for the shape alone.

    Raises:
      ValueError: the first axis is not that of the examples.

    Warns:
      CrossedExamplesWarning: another axis grows with the number of examples.
    """
    if num_examples is None or not shape or not jax.tree.leaves(columns):
        return
    if shape[0] != num_examples:
        raise ValueError(
            f"{what} has shape {shape} and the batch has {num_examples} examples: its first axis is not the "
            f"batch's. Return one value an example, ({num_examples},), or a token, ({num_examples}, tokens)"
            f"{_repair(shape, num_examples)}."
        )
    if num_examples == 1 or num_examples not in shape[1:]:
        return
    if (axis := _growing_axis(shape, columns, num_examples, again)) is not None:
        warnings.warn(
            f"{what} has shape {shape} for {num_examples} examples, and axis {axis} of it grows with the "
            f"batch: every example meets every other. Arrays such as ({num_examples}, 1) and "
            f"({num_examples},) were broadcast: give both the same shape, with .squeeze(-1). Where "
            "pairs of examples are meant, reduce them to one value an example.",
            CrossedExamplesWarning,
            stacklevel=2,
        )


def _repair(shape: tuple[int, ...], num_examples: int) -> str:
    if num_examples in shape:
        return f", with jnp.moveaxis(value, {shape.index(num_examples)}, 0)"
    if np.prod(shape) % num_examples == 0:
        return f", with .reshape({num_examples}, -1)"
    return "; or reduce it to one scalar for the batch"


def _growing_axis(
    shape: tuple[int, ...], columns: Batch, num_examples: int, again: Callable[[Any], Any]
) -> int | None:
    """The first axis, of as many values as there are examples, that doubles where they do."""
    axes = [axis for axis in range(1, len(shape)) if shape[axis] == num_examples]

    def doubled(leaf: Object) -> Any:
        own = np.shape(leaf)
        if own[:1] != (num_examples,):
            return leaf
        return jax.ShapeDtypeStruct((2 * num_examples, *own[1:]), jax.dtypes.canonicalize_dtype(_dtype(leaf)))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            grown = jax.eval_shape(again, jax.tree.map(doubled, columns)).shape
    except Exception:  # the model takes this number of examples alone, so the columns have
        # to tell, less surely: each axis by itself, and all axes after the first taken together
        shapes = [np.shape(leaf)[1:] for leaf in jax.tree.leaves(columns)]
        lengths = {length for shape in shapes for length in (*shape, math.prod(shape))}
        # where each token predicts the next one, there is one prediction fewer than tokens in the column
        return None if lengths & {num_examples, num_examples + 1} else axes[0]
    return next((axis for axis in axes if grown[axis : axis + 1] == (2 * num_examples,)), None)


def _dtype(leaf: Object) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
