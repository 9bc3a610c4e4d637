"""Array buffers: copies that nothing else holds, and types that stay as they are."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from fourbeat.types import Object, Tree

_Tree = TypeVar("_Tree")


def settled(tree: _Tree) -> _Tree:
    """The same tree with strongly typed arrays, so that a second call is no second compilation.

    >>> settled({"n": jnp.asarray(0)})["n"].weak_type
    False
    """
    return jax.tree.map(_settle, tree)


@jax.jit
def _copies(tree: Tree) -> Any:
    return jax.tree.map(lambda leaf: jnp.copy(_settle(leaf)), tree)


def copied(tree: _Tree) -> _Tree:
    """The same tree in new buffers, each its own, strongly typed: safe to donate.

    >>> x = jnp.ones(3)
    >>> jax.tree.map(lambda leaf: leaf.delete(), copied({"a": x, "b": x}))
    {'a': None, 'b': None}
    >>> x.is_deleted()
    False
    """
    return _copies(tree)


def _settle(leaf: Object) -> jax.Array:
    array = jnp.asarray(leaf)
    # a typed PRNG key has no weak type, and no such attribute either
    return jnp.asarray(array, dtype=array.dtype) if getattr(array, "weak_type", False) else array
