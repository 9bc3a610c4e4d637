"""One of two trees, chosen on the device."""

from typing import Any

import jax
from jax import lax


def either(condition: jax.Array, tree: Any, other: Any) -> Any:
    """`tree` where the condition holds, else `other`; both of one structure, shapes and dtypes.

    A conditional, not a `where`: XLA would fuse a `where` into what made the tree, and batch statistics
    then come out an ulp off (seen on CPU).
    """
    if not jax.tree.leaves(tree):
        return tree
    return lax.cond(condition, lambda tree, other: tree, lambda tree, other: other, tree, other)
