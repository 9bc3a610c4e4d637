"""One value a row: the rule on the shape of a loss, and of what a metric's function returns."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


class CrossedExamplesWarning(UserWarning):
    """A loss, or what a metric's function returned, holds a value for every pair of rows."""


def check_one_value_an_example(
    what: str, shape: tuple[int, ...], columns: Any, rows: int | None, again: Callable[[Any], Any]
) -> None:
    """Raises, or warns, where an array of one value a row, or a row's token, is none.

    Args:
      what: a name of the array, for the texts.
      shape: of the array; a scalar passes.
      columns: the pytree of arrays that it was computed from.
      rows: how many rows they have; None, where nothing tells, passes.
      again: computes the array from other columns; it is called with more rows, for the shape alone.

    Raises:
      ValueError: the first axis is not that of the rows.

    Warns:
      CrossedExamplesWarning: another axis grows with the rows.
    """
    if rows is None or not shape or not jax.tree.leaves(columns):
        return
    if shape[0] != rows:
        raise ValueError(
            f"{what} has shape {shape} and the batch {rows} rows: its first axis is not the batch's. Return "
            f"one value an example, ({rows},), or a token, ({rows}, tokens){_repair(shape, rows)}."
        )
    if rows == 1 or rows not in shape[1:]:
        return
    if (axis := _growing_axis(shape, columns, rows, again)) is not None:
        warnings.warn(
            f"{what} has shape {shape} for {rows} rows, and axis {axis} of it grows with the batch: every "
            f"row meets every other. Arrays such as ({rows}, 1) and ({rows},) were broadcast: give both one "
            "shape, such as with .squeeze(-1). Where pairs of rows are meant, reduce them to one value a "
            "row.",
            CrossedExamplesWarning,
            stacklevel=2,
        )


def _repair(shape: tuple[int, ...], rows: int) -> str:
    if rows in shape:
        return f", with jnp.moveaxis(value, {shape.index(rows)}, 0)"
    if np.prod(shape) % rows == 0:
        return f", with .reshape({rows}, -1)"
    return "; or reduce it to one scalar for the batch"


def _growing_axis(shape: tuple[int, ...], columns: Any, rows: int, again: Callable[[Any], Any]) -> int | None:
    """The first axis, of as many values as there are rows, that doubles where the rows do."""
    axes = [axis for axis in range(1, len(shape)) if shape[axis] == rows]

    def doubled(leaf: Any) -> Any:
        own = np.shape(leaf)
        if own[:1] != (rows,):
            return leaf
        return jax.ShapeDtypeStruct((2 * rows, *own[1:]), jax.dtypes.canonicalize_dtype(_dtype(leaf)))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            grown = jax.eval_shape(again, jax.tree.map(doubled, columns)).shape
    except Exception:  # a model that is written for this number of rows: its columns tell less surely
        lengths = {length for leaf in jax.tree.leaves(columns) for length in np.shape(leaf)[1:]}
        # tokens of which each predicts the next are one fewer than their column holds
        return None if lengths & {rows, rows + 1} else axes[0]
    return next((axis for axis in axes if grown[axis : axis + 1] == (2 * rows,)), None)


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
