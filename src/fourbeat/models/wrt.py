"""Which leaves of a model are trained: `wrt` selects them, and gradients are taken with respect to them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx import filterlib

from fourbeat.models.equinox_states import places_of_states
from fourbeat.models.parts import ModelLeaf, Parts
from fourbeat.models.path_filters import check_patterns
from fourbeat.trees.globs import joined
from fourbeat.trees.paths import Path, plain_path, render_attribute
from fourbeat.types import Model, Object

Wrt = Any  # an nnx filter, `wrt(path, leaf) -> bool`, or a tree of booleans

_MOST_LISTED = 8


def trained_leaves(model: Model, parts: Parts, wrt: Wrt, *, is_module: bool) -> list[bool]:
    """For each leaf of a model whether it is a parameter.

    Args:
      model: the model as the user gave it.
      parts: the model taken apart.
      wrt: as `fourbeat.split` takes it.
      is_module: whether the model is an NNX module or holds one.

    Raises:
      TypeError: `wrt` is of another kind.
      ValueError: `wrt` selects nothing or a leaf without a gradient, or a pattern in it matches nothing, or
        a tree of booleans does not fit.
    """
    by_default = _default(model, is_module)
    if wrt is None:
        selects = by_default
    elif (flags := _flags(wrt)) is not None:
        _check_fits(flags, parts, by_default)
        selects = lambda path, owner: next(_flags_of(flags, path), False)
    elif is_module and not isinstance(wrt, Mapping):
        selects: Callable[..., Any] = filterlib.to_predicate(wrt)
    elif callable(wrt):
        selects = wrt
    else:
        what = "an NNX module" if is_module else "a plain pytree"
        kinds = "an nnx filter" if is_module else "a function wrt(path, leaf) -> bool"
        such = "nnx.Param" if is_module else "lambda path, leaf: path[0] == 'head'"
        raise TypeError(
            f"wrt is {wrt!r:.200}, but this model is {what}. Pass {kinds}, such as {such}, or a tree of "
            "booleans, one for each array."
        )
    check_patterns(wrt, [joined(leaf.path) for leaf in parts.leaves])
    chosen = [bool(selects(leaf.path, leaf.owner)) for leaf in parts.leaves]
    selected = [leaf for leaf, is_chosen in zip(parts.leaves, chosen, strict=True) if is_chosen]
    _check_selected(parts.leaves, selected, wrt)
    return chosen


def _default(model: Model, is_module: bool) -> Callable[..., bool]:
    if is_module:
        return filterlib.to_predicate(nnx.Param)
    places = places_of_states(model)

    def is_trained(path: Path, leaf: Object) -> bool:
        is_state = any(path[: len(place)] == place for place in places)
        return jnp.issubdtype(leaf.dtype, jnp.inexact) and not is_state

    return is_trained


def _flags(wrt: Wrt) -> dict[Path, bool] | None:
    """A tree of booleans by path; None where `wrt` is something else."""
    if isinstance(wrt, bool | jax.tree_util.Partial):
        return None
    is_variable = lambda node: isinstance(node, nnx.Variable)
    found = [
        ((*plain_path(outer), *plain_path(inner)), flag)
        for outer, node in jax.tree_util.tree_flatten_with_path(wrt, is_leaf=is_variable)[0]
        for inner, flag in jax.tree_util.tree_flatten_with_path(
            node.get_value() if isinstance(node, nnx.Variable) else node
        )[0]
    ]
    if not found or not all(_is_boolean(flag) for _, flag in found):
        return None
    for path, flag in found:
        if np.ndim(flag):
            raise ValueError(
                f"{render_attribute('wrt', path)} holds {np.size(flag)} booleans. An array is trained as a "
                "whole or not at all: give one boolean, and multiply the gradients by a mask between "
                "beats.gradient and beats.update."
            )
    return {path: bool(flag) for path, flag in found}


def _is_boolean(flag: Object) -> bool:
    is_array = isinstance(flag, np.ndarray | np.generic | jax.Array)
    return isinstance(flag, bool) or (is_array and flag.dtype == bool)


def _flags_of(flags: dict[Path, bool], path: Path) -> Iterator[bool]:
    """The flags at a path and above it, the nearest first."""
    for length in range(len(path), -1, -1):
        if path[:length] in flags:
            yield flags[path[:length]]


def _check_fits(flags: dict[Path, bool], parts: Parts, by_default: Callable[..., bool]) -> None:
    places = [*(leaf.path for leaf in parts.leaves), *(path for path, _ in parts.describe())]
    for path in flags:
        if not any(place[: len(path)] == path for place in places):
            raise ValueError(
                f"wrt is a tree of booleans with one at {render_attribute('wrt', path)}, and the model has "
                f"nothing there: it holds {_listed(parts.leaves)}. Give the tree the model's structure."
            )
    for leaf in parts.leaves:
        if by_default(leaf.path, leaf.owner) and next(_flags_of(flags, leaf.path), None) is None:
            raise ValueError(
                f"wrt is a tree of booleans with none for {render_attribute('model', leaf.path)}. Give one "
                "for every array, or for what is above it."
            )


def _check_selected(leaves: list[ModelLeaf], selected: list[ModelLeaf], wrt: Wrt) -> None:
    if not selected:
        raise ValueError(
            f"wrt={wrt!r:.200} selects no parameter: the model holds {_listed(leaves)}. Choose a filter that "
            "matches one of these (Python numbers are constants: make them arrays to train them)."
        )
    for leaf in selected:
        dtype = jnp.result_type(leaf.value)
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(
                f"wrt={wrt!r:.200} selects {render_attribute('model', leaf.path)} of dtype {dtype}, which "
                "has no gradient. Narrow wrt to floating-point arrays."
            )


def _listed(leaves: list[ModelLeaf]) -> str:
    seen = [render_attribute("model", leaf.path) for leaf in leaves[:_MOST_LISTED]]
    return ", ".join(seen) or "no array at all"
