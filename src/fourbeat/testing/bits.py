"""An assertion that two trees are the same, bit for bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fourbeat.beats.saved_state import laid_out
from fourbeat.types import Object, Tree

_SHOWN = 5


def assert_bit_equal(tree: Tree, expected: Tree) -> None:
    """Passes where every leaf has the dtype, the shape and the bits of the other's; NaN equals itself.

    Args:
      tree: any pytree of arrays, typed keys, and Python values.
      expected: the same.

    Raises:
      AssertionError: they differ; the text names the paths, how many numbers differ, and the first of them.

    >>> assert_bit_equal({"w": jnp.ones(2)}, {"w": np.ones(2, np.float32)})
    >>> assert_bit_equal({"w": jnp.ones(2)}, {"w": np.array([1.0, 2.0], np.float32)})
    Traceback (most recent call last):
    AssertionError: 1 of 1 leaves differ:
      tree['w']: 1 of 2 numbers of float32[2] differ, the first is 1.0 where 2.0 is expected
    """
    found, others = (jax.tree_util.tree_flatten_with_path(laid_out(each))[0] for each in (tree, expected))
    paths = [jax.tree_util.keystr(path) for path, _ in found]
    expected_paths = [jax.tree_util.keystr(path) for path, _ in others]
    if paths != expected_paths:
        lacking = [path for path in expected_paths if path not in paths]
        beyond = [path for path in paths if path not in expected_paths]
        what = [f"it lacks tree{path}" for path in lacking] + [f"it has tree{path} too" for path in beyond]
        raise AssertionError(
            f"the trees have other leaves: {'; '.join(what[:_SHOWN]) or 'in another order'}."
        )
    lines = []
    for (path, leaf), (_, other) in zip(found, others, strict=True):
        difference = _difference(_stored(leaf), _stored(other))
        if difference:
            lines.append(f"\n  tree{jax.tree_util.keystr(path)}: {difference}")
    if lines:
        more = f"\n  and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise AssertionError(f"{len(lines)} of {len(found)} leaves differ:{''.join(lines[:_SHOWN])}{more}")


def _stored(leaf: Object) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _difference(array: np.ndarray, expected: np.ndarray) -> str:
    if (array.dtype, array.shape) != (expected.dtype, expected.shape):
        return f"{_kind(array)} where {_kind(expected)} is expected"
    if array.dtype == object:
        return "" if array.tolist() == expected.tolist() else f"{array!r} where {expected!r} is expected"
    if array.tobytes() == expected.tobytes():
        return ""
    size = array.dtype.itemsize
    bits, others = (
        np.ascontiguousarray(x).reshape(-1).view(np.uint8).reshape(-1, size) for x in (array, expected)
    )
    where = np.flatnonzero((bits != others).any(axis=1))
    first: Any = where[0]
    return (
        f"{len(where)} of {array.size} numbers of {_kind(array)} differ, the first is "
        f"{array.reshape(-1)[first]} where {expected.reshape(-1)[first]} is expected"
    )


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"
