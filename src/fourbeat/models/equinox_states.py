"""Where a pytree holds the states of Equinox's stateful layers, such as running statistics."""

import sys
from typing import Any

import jax

from fourbeat.trees.paths import Path, plain_path
from fourbeat.types import Tree


def places_of_states(tree: Tree) -> list[Path]:
    """The paths of every `equinox.nn.State` and `equinox.nn.StateIndex` of a pytree.

    >>> places_of_states({"w": 1.0})
    []
    """
    kinds = _kinds("State", "StateIndex")
    return [plain_path(path) for path, node in _flat(tree, kinds) if isinstance(node, kinds)]


def states_out_of_reach(tree: Tree) -> list[str]:
    """Where a pytree holds an `equinox.nn.State` that cannot be replaced.

    A dict or a list around it, at any height, can be written; tuples and modules cannot.
    """
    kinds = _kinds("State")
    if not kinds:
        return []
    writable = [path for path, node in _flat(tree, (dict, list)) if isinstance(node, dict | list)]
    return [
        f"model{jax.tree_util.keystr(path)}"
        for path, node in _flat(tree, kinds)
        if isinstance(node, kinds) and not any(path[: len(above)] == above for above in writable)
    ]


def _kinds(*names: str) -> tuple[type, ...]:
    """The Equinox classes with these names; none if Equinox is not loaded, because no tree holds one then."""
    nn = getattr(sys.modules.get("equinox"), "nn", None)
    return tuple(kind for name in names if (kind := getattr(nn, name, None)) is not None)


def _flat(tree: Tree, kinds: tuple[type, ...]) -> list[tuple[tuple, Any]]:
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: isinstance(node, kinds))[0]
