"""Makes a clone of the object graph from its spec and leaves; the user's objects are not touched."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.nnx import tracers

from fourbeat.functional.flattening import Incoming
from fourbeat.functional.identities import Origins
from fourbeat.functional.numpy_boxes import NumpyBox, Store
from fourbeat.functional.refusals import Forbidden
from fourbeat.functional.specs import Again, AnyNode, Box, Constant, Fresh, Leaf, Node, Roots, Spec
from fourbeat.objects.families import Mutable
from fourbeat.types import Object


@dataclasses.dataclass(frozen=True)
class Clone:
    """Objects made from a state, and what they held at each path when they were made."""

    roots: Roots
    incoming: dict[str, Incoming]
    origins: Origins


def rebuild(spec: Spec, leaves: Sequence[Any], *, box_all: bool = False) -> Clone:
    """New objects that hold `leaves`, one object graph for all roots of `spec`.

    Args:
      spec: the fixed part of the state.
      leaves: its arrays, in the order of `spec.leaves`.
      box_all: box the NumPy constants too, to see which of them a method writes.
    """
    building = _Building(iter(leaves), box_all)
    roots = tuple(building.build(root) for root in spec.roots)
    numbers = building.build(spec.identities) if spec.identities is not None else None
    return Clone(roots, building.incoming, Origins(building.objects, building.paths, numbers))


def rebuild_plain(
    spec: Spec, leaves: Sequence[Any], array: Callable[[str, Any], np.ndarray]
) -> tuple[Any, ...]:
    """New objects that hold what ordinary objects hold: Python numbers and NumPy arrays.

    Args:
      spec: the fixed part of the state.
      leaves: its arrays, with values.
      array: makes the NumPy array for a path from its value.
    """
    building = _PlainBuilding(iter(leaves), array)
    return tuple(building.build(root) for root in spec.roots)


def value_of(leaf: Leaf, array: Object) -> Object:
    """What a method sees for a leaf: a key if it was a key, a weak type if it had one."""
    if leaf.form.holds == "key":
        return jax.random.wrap_key_data(array, impl=leaf.implementation)
    if leaf.form.weak and array.dtype == leaf.form.dtype:
        # States carry no weak types, so that loops and restored states have one type; methods do.
        convert, parameters = _conversion()
        changed = {"new_dtype": array.dtype, "weak_type": True}
        return convert.bind(array, **{**parameters, **changed})
    return array


def plain_value(leaf: Leaf, array: Object) -> Object:
    """What an ordinary object holds for a leaf: a Python number, a NumPy array, a key, or a JAX array."""
    if leaf.form.number is not None:
        return leaf.form.number(np.asarray(array).item())
    if leaf.form.holds in ("numpy", "box"):
        return np.array(array)
    copied = jnp.array(array, copy=True)
    if leaf.implementation is not None:
        copied = jax.random.wrap_key_data(copied, impl=leaf.implementation)
    return copied


@functools.cache
def _conversion() -> tuple[Any, dict[str, Any]]:
    """The primitive that changes a dtype, and its parameters, which differ between JAX versions."""
    zero = jax.ShapeDtypeStruct((), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda x: jax.lax.convert_element_type(x, jnp.int32))(zero)
    return jaxpr.eqns[0].primitive, jaxpr.eqns[0].params


class _Building:
    def __init__(self, leaves: Iterator[Any], box_all: bool):
        self.leaves = leaves
        self.box_all = box_all
        self.incoming: dict[str, Incoming] = {}
        self.objects: list[Any] = []
        self.paths: list[str] = []

    def build(self, node: AnyNode) -> Any:
        match node:
            case Leaf():
                array = jnp.asarray(next(self.leaves))
                self.incoming[node.path] = Incoming(node, tuple(array.shape))
                return value_of(node, array)
            case Constant():
                self.incoming[node.path] = Incoming(node)
                return node.value if node.error is None else Forbidden(node.error, node)
            case Fresh():
                return tracers.TraceState()
            case Again():
                return self.objects[node.index]
            case Box():
                return self._box(node)
            case Node():
                return self._composite(node)

    def _box(self, node: Box) -> Any:
        held = self.build(node.held)
        if isinstance(node.held, Leaf) or self.box_all:
            held = NumpyBox(Store(held, node.held.path, node.held))
        self.objects.append(held)
        self.paths.append(node.held.path)
        return held

    def _composite(self, node: Node) -> Any:
        family = node.family
        if not isinstance(family, Mutable):
            parts = [self.build(child) for child in node.children]
            if node.is_fixed:
                return node.value
            return family.make(node.kind, node.fixed, node.labels, parts)
        made = family.shell(node.kind, node.fixed)
        self.objects.append(made)
        self.paths.append(node.path)
        parts = [self.build(child) for child in node.children]
        family.fill(made, node.labels, parts)
        return made


class _PlainBuilding(_Building):
    """Builds what the user's own objects would hold."""

    def __init__(self, leaves: Iterator[Any], array: Callable[[str, Any], np.ndarray]):
        super().__init__(leaves, box_all=False)
        self.array = array

    def build(self, node: AnyNode) -> Any:
        return plain_value(node, next(self.leaves)) if isinstance(node, Leaf) else super().build(node)

    def _box(self, node: Box) -> Any:
        held = self.array(node.held.path, self.build(node.held))
        self.objects.append(held)
        return held
