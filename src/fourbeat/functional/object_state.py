"""The state of stateful objects: a flat pytree whose keys are the attributes' paths."""

import difflib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from fourbeat.functional.specs import Leaves, Spec, describe
from fourbeat.types import Object


class ObjectState:
    """Everything that a stateful object's methods change, as one pytree.

    Leaves are arrays named by path (`state["layers[0].weight"]`); the rest is an interned spec
    compared by identity. It is immutable, and can be jitted, donated, mapped, scanned and saved.
    """

    __slots__ = ("_leaves", "_spec")

    def __init__(self, leaves: Leaves, spec: Spec):
        object.__setattr__(self, "_leaves", leaves)
        object.__setattr__(self, "_spec", spec)

    @property
    def leaves(self) -> tuple[Any, ...]:
        """The arrays, PRNG keys as their data."""
        return self._leaves

    @property
    def spec(self) -> Spec:
        """What is fixed about the objects."""
        return self._spec

    def keys(self) -> tuple[str, ...]:
        """The paths of all leaves, in order."""
        return tuple(leaf.path for leaf in self._spec.leaves)

    def __getitem__(self, path: str) -> jax.Array:
        """A copy of one leaf, which outlives a donation of the state."""
        position = self._position(path)
        leaf, array = self._spec.leaves[position], jnp.copy(self._leaves[position])
        if leaf.implementation is None:
            return array
        return jax.random.wrap_key_data(array, impl=leaf.implementation)

    def replace(self, changes: dict[str, Any]) -> "ObjectState":
        """A state with other values at some paths, cast to the dtypes they have now.

        Args:
          changes: a value for each path; a path is what `keys()` lists.
        """
        leaves = list(self._leaves)
        for path, value in changes.items():
            position = self._position(path)
            if self._spec.leaves[position].implementation is not None:
                value = jax.random.key_data(value)
            leaves[position] = jnp.array(value, leaves[position].dtype, copy=True)
        return ObjectState(tuple(leaves), self._spec)

    def __contains__(self, path: str) -> bool:
        return path in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._leaves)

    def __setattr__(self, name: str, value: Object):
        raise AttributeError(f"a state is immutable; use state.replace({{{name!r}: ...}})")

    def __repr__(self):
        return f"ObjectState({', '.join(describe(leaf) for leaf in self._spec.leaves)})"

    def _position(self, path: str) -> int:
        names = self.keys()
        if path in names:
            return names.index(path)
        near = difflib.get_close_matches(str(path), names, n=3) or names[:10]
        raise KeyError(f"{path!r} is not in the state; it holds {', '.join(near) or 'nothing'}")


def _flatten(state: ObjectState):
    return state._leaves, state._spec


def _flatten_with_keys(state: ObjectState):
    names = map(jax.tree_util.DictKey, state.keys())
    return tuple(zip(names, state._leaves, strict=True)), state._spec


def _unflatten(spec: Spec, leaves: Any) -> ObjectState:
    return ObjectState(leaves, spec)


jax.tree_util.register_pytree_with_keys(ObjectState, _flatten_with_keys, _unflatten, _flatten)
