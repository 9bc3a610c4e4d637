"""Plain pytrees taken apart into array leaves and static values, and put together again."""

from collections.abc import Hashable
from typing import Any

import jax
import numpy as np

from fourbeat.explicit.interning import canonical, canonical_treedef
from fourbeat.explicit.parts import Leaf, Parts
from fourbeat.explicit.paths import Path, plain_path


def take_apart(model: Any) -> Parts:
    """The array leaves of a pytree and what it takes to build an equal pytree.

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
    leaves: list[Leaf] = []
    structure: list[tuple[Path, Hashable]] = [((), canonical_treedef(treedef))]
    for key_path, value in with_paths:
        path = plain_path(key_path) or ("value",)
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            leaves.append(Leaf(path, value, value))
            structure.append((path, "array"))
            template.append(_HOLE)
        else:
            structure.append((path, canonical(value)))
            template.append(value)

    def rebuild(values: list) -> Any:
        given = iter(values)
        return treedef.unflatten([next(given) if x is _HOLE else x for x in template])

    return Parts(leaves, tuple(structure), rebuild)


_HOLE = object()
