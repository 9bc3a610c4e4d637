"""One of two trees, chosen on the device without a bit of difference to what made them."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def either(condition: jax.Array, tree: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`tree` where the condition holds, else `other`: fields of a state, of one structure and type.

    On CPU by a conditional, which copies what is taken and reads nothing else. Elsewhere by a `where`, which
    can be fused with what made the tree; but not for `rest`: batch statistics then come out an ulp off.
    """
    if jax.default_backend() == "cpu":
        return whole(condition, tree, other)
    return {name: (whole if name == "rest" else _each)(condition, tree[name], other[name]) for name in tree}


def whole(condition: jax.Array, tree: Any, other: Any) -> Any:
    """`tree` where the condition holds, else `other`, by a conditional."""
    if not jax.tree.leaves(tree):
        return tree
    return lax.cond(condition, lambda tree, other: tree, lambda tree, other: other, tree, other)


def _each(condition: jax.Array, tree: Any, other: Any) -> Any:
    return jax.tree.map(lambda leaf, kept: jnp.where(condition, leaf, kept), tree, other)
