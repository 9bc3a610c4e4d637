"""Keeps bad numbers out of a state: norms without overflow, a test of examples, a choice of two trees."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fourbeat.beats.loss import Forward, is_weighted
from fourbeat.trees.example_counts import known_num_examples
from fourbeat.types import Batch, Tree

LARGE = 2**16  # values from which one more pass over an array shows in the time of a step


def norm(tree: Tree) -> jax.Array:
    """The global l2 norm of a tree of arrays, summed in float32 at least.

    In float16 the sum of squares would overflow from a norm of 256.

    >>> float(norm({"w": jnp.full(100, 300.0, jnp.float16)}))
    3000.0
    """
    return optax.tree.norm(
        jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), tree)
    )


def select(condition: jax.Array, tree: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`tree` where the condition holds, else `other`: fields of a state, of one structure and type.

    On CPU this is a conditional, which copies the tree that is taken and reads nothing else. Elsewhere it
    is a `where`, which can be fused with the operations that made the tree; not for `rest`, because batch
    statistics would then come out an ulp off.
    """
    if jax.default_backend() == "cpu":
        return select_whole(condition, tree, other)
    return {
        name: (select_whole if name == "rest" else _each)(condition, tree[name], other[name]) for name in tree
    }


def select_whole(condition: jax.Array, tree: Tree, other: Tree) -> Tree:
    """`tree` where the condition holds, else `other`, by a conditional."""
    if not jax.tree.leaves(tree):
        return tree
    return lax.cond(condition, lambda tree, other: tree, lambda tree, other: other, tree, other)


def _each(condition: jax.Array, tree: Tree, other: Tree) -> Any:
    return jax.tree.map(lambda leaf, kept: jnp.where(condition, leaf, kept), tree, other)


def examples_with_bad_losses(seen: Forward) -> jax.Array:
    """Examples whose loss is not finite and counts: bool (batch,).

    It looks for them only where the mean is not finite. A second reader of the losses in every step would
    change how XLA sums them, which costs a bit.
    """
    weight = jnp.ones((), jnp.float32) if seen.item_weight is None else seen.item_weight

    def look(items: jax.Array, weight: jax.Array) -> jax.Array:
        bad = ~jnp.isfinite(items) & (weight != 0)
        return bad.reshape(bad.shape[0], -1).any(1)

    none = lambda items, weight: jnp.zeros(items.shape[0], bool)
    return lax.cond(jnp.isfinite(seen.loss), none, look, seen.items, weight)


def examples_with_bad_columns(batch: Batch, bad_losses: jax.Array) -> jax.Array:
    """Examples that count and have a NaN or Inf in a column, else `bad_losses`: bool (batch,).

    A bad example can spoil the losses of all others, through batch statistics, so columns are asked first.
    """
    num = known_num_examples(batch)
    if num is None:
        return bad_losses
    bad = jnp.zeros(num, bool)
    for column in jax.tree.leaves(batch):
        if jnp.issubdtype(column.dtype, jnp.inexact) and column.ndim and column.shape[0] == num:
            bad |= ~jnp.isfinite(column).reshape(num, -1).all(1)
    if is_weighted(batch):
        bad &= (batch["weight"] != 0).reshape(num, -1).any(1)
    if bad_losses.shape != bad.shape:
        return bad
    return jnp.where(bad.any(), bad, bad_losses)
