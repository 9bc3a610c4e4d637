"""Norms of gradients and updates."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

LARGE = 2**16  # values from which one more pass over an array shows in the time of a step


def norm(tree: Any) -> jax.Array:
    """The global l2 norm of a tree of arrays, summed in float32 at least.

    In float16 the sum of squares would overflow from a norm of 256.

    >>> float(norm({"w": jnp.full(100, 300.0, jnp.float16)}))
    3000.0
    """
    return optax.tree.norm(
        jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), tree)
    )
