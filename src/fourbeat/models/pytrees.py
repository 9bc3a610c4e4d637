"""Plain pytrees taken apart into array leaves and static values, and put together again."""

from collections.abc import Hashable, Iterator
from typing import Any

import jax
import numpy as np

from fourbeat.models.parts import ModelLeaf, Parts
from fourbeat.trees.interning import canonical, canonical_treedef
from fourbeat.trees.paths import Path, plain_path, render_attribute
from fourbeat.types import Model, Object


def take_apart(model: Model) -> Parts:
    """The array leaves of a pytree and all that is needed to build an equal pytree.

    Leaves that are not arrays (functions, strings, Python numbers) are static: they are part of the
    structure, as an Equinox module expects of its activation functions. A bare array has the path
    `("value",)`.

    Args:
      model: any pytree; it is not changed.

    Returns:
      The parts, in the order of `jax.tree.leaves`.
    """
    with_paths, treedef = jax.tree_util.tree_flatten_with_path(model)
    template: list[Any] = []
    leaves: list[ModelLeaf] = []
    structure: list[tuple[Path, Hashable]] = [((), canonical_treedef(treedef))]
    for key_path, value in with_paths:
        path = plain_path(key_path) or ("value",)
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            leaves.append(ModelLeaf(path, value, value))
            structure.append((path, "array"))
            template.append(_HOLE)
        else:
            structure.append((path, canonical(value)))
            template.append(value)

    def rebuild(values: list) -> Any:
        given = iter(values)
        return treedef.unflatten([next(given) if x is _HOLE else x for x in template])

    identity = tuple(structure)
    return Parts(leaves, identity, lambda: identity, rebuild, dict(_values("model", model)))


def _values(path: str, node: Object) -> Iterator[tuple[str, Any]]:
    """What a pytree holds beside its array leaves: other leaves, and the static fields of its nodes."""
    found, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda each: each is not node)
    is_leaf = len(found) == 1 and found[0][0] == ()
    if is_leaf:
        if not isinstance(node, jax.Array | np.ndarray | np.generic):
            yield path, node
        return
    children = {id(child) for _, child in found}
    for name, value in getattr(node, "__dict__", {}).items():
        if id(value) not in children:
            yield render_attribute(path, (name,)), value
    for key_path, child in found:
        yield from _values(render_attribute(path, plain_path(key_path)), child)


_HOLE = object()
