"""The two forms of what members hold: trees with a leading axis of members, or a tuple of one tree each."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fourbeat.types import Object, Tree


def stacked(trees: Sequence[Tree], axis: int = 0) -> Any:
    """One tree of arrays with an axis of members.

    >>> stacked([{"w": 1.0}, {"w": 2.0}])["w"].tolist()
    [1.0, 2.0]
    """
    return jax.tree.map(lambda *leaves: _stacked(leaves, axis), *trees)


def _stacked(leaves: tuple[Any, ...], axis: int) -> Any:
    if all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return np.stack(leaves, axis)
    return jnp.stack(leaves, axis)


def one_of(held: Object, place: int) -> Any:
    """What one member holds.

    >>> one_of({"w": jnp.arange(3)}, 1)["w"].tolist(), one_of((5, 6), 1)
    (1, 6)
    """
    return held[place] if type(held) is tuple else jax.tree.map(lambda leaf: leaf[place], held)


def num_members(held: Object) -> int:
    """How many members there are.

    >>> num_members((5, 6)), num_members({"w": jnp.arange(3)})
    (2, 3)
    """
    return len(held) if type(held) is tuple else int(np.shape(jax.tree.leaves(held)[0])[0])
