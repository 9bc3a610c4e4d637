"""Writes a state back into the live objects, which keep their identities and their types."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax.nnx import tracers
from jax.core import Tracer

from fourbeat.functional import refusals
from fourbeat.functional.identities import Identities
from fourbeat.functional.rebuilding import plain_value
from fourbeat.functional.specs import Again, AnyNode, Box, Constant, Fresh, Leaf, Node, Spec
from fourbeat.objects.comparing import ABSENT
from fourbeat.objects.families import Immutable, Mutable
from fourbeat.trees.interning import canonical
from fourbeat.types import Object


def commit(spec: Spec, leaves: Sequence[Any], roots: Sequence[Any], identities: Identities) -> None:
    """Writes a state into the live objects `roots`; nothing is written where it is refused.

    Args:
      spec: the fixed part of the state.
      leaves: its arrays.
      roots: the live objects.
      identities: which live object each number means; learns of those that are made.

    Raises:
      FunctionalizeError: a leaf is a tracer or has batch axes, or nothing says which live objects the
        numbers mean.
    """
    for leaf, array in zip(spec.leaves, leaves, strict=True):
        if isinstance(array, Tracer):
            raise refusals.uncommittable(leaf.path, "a tracer")
        if tuple(np.shape(array)) != leaf.shape:
            batched = f"of shape {tuple(np.shape(array))} where one object holds {leaf.shape}"
            raise refusals.uncommittable(leaf.path, batched)
    known = None if spec.identities is None else identities.objects_of(leaves[-1], spec.identities.form)
    writing = _Writing(iter(leaves), known)
    for node, root in zip(spec.roots, roots, strict=True):
        writing.write(node, root, is_root=True)
    if spec.identities is not None:
        identities.keep(leaves[-1], writing.objects)


class _Writing:
    """Writes in the order of flattening.

    `known` holds the live object that each mutable node is, in the order of meeting, and None for new ones;
    without it every node is the live object at its place.
    """

    def __init__(self, leaves: Iterator[Any], known: Sequence[Any] | None):
        self.leaves = leaves
        self.known = known
        self.objects: list[Any] = []
        self.claimed: set[int] = set()

    def write(self, node: AnyNode, live: Object, *, is_root: bool = False) -> Any:
        """The value that belongs at this place; mutable live values are written in place."""
        match node:
            case Leaf():
                return _held_by(node, next(self.leaves), live)
            case Constant():
                return _constant(node, live)
            case Fresh():
                return live if isinstance(live, tracers.TraceState) else tracers.TraceState()
            case Again():
                return self.objects[node.index]
            case Box():
                return self._array(node, live)
            case Node():
                if isinstance(node.family, Mutable):
                    return self._mutable(node, node.family, live, is_root)
                return self._immutable(node, node.family, live)

    def _live(self, live: Object) -> Any:
        """The live object that the next mutable node is, or `ABSENT` where it is a new one."""
        if self.known is None:
            return live
        known = self.known[len(self.objects)]
        return ABSENT if known is None else known

    def _array(self, node: Box, live: Object) -> np.ndarray:
        position, at_place, live = len(self.objects), live, self._live(live)
        self.objects.append(None)
        if isinstance(node.held, Constant):
            value = _constant(node.held, live)
        else:
            new = np.asarray(next(self.leaves))
            writable = type(live) is np.ndarray and live.flags.writeable
            if writable and live.shape == new.shape and id(live) not in self.claimed:
                np.copyto(live, new, casting="unsafe")
                value = live
            else:
                kind = at_place.dtype if type(at_place) is np.ndarray else new.dtype
                value = new.astype(kind)
        self.claimed.add(id(value))
        self.objects[position] = value
        return value

    def _immutable(self, node: Node, family: Immutable, live: Object) -> Any:
        held, values = self._children(node, live)
        if held is not None and all(map(_same, held, values)):
            return live
        if node.is_fixed:
            return node.value
        return family.make(node.kind, node.fixed, node.labels, values)

    def _mutable(self, node: Node, family: Mutable, live: Object, is_root: bool) -> Any:
        live = live if is_root else self._live(live)
        reused = type(live) is node.kind and id(live) not in self.claimed
        if reused and family.parts(live).fixed != node.fixed:
            reused = False
        target = live if reused else family.shell(node.kind, node.fixed)
        self.objects.append(target)
        self.claimed.add(id(target))
        _, values = self._children(node, live if reused else ABSENT)
        family.fill(target, node.labels, values)
        return target

    def _children(self, node: Node, live: Object) -> tuple[list[Any] | None, list[Any]]:
        """The parts `live` holds, None where they are others than the node's; and the new parts."""
        parts = node.family.parts(live) if type(live) is node.kind else None
        held = dict(zip(parts.labels, parts.values, strict=True)) if parts else {}
        values = [
            self.write(child, held.get(label, ABSENT))
            for label, child in zip(node.labels, node.children, strict=True)
        ]
        alike = parts is not None and (parts.labels, parts.fixed) == (node.labels, node.fixed)
        return (list(parts.values) if parts is not None and alike else None), values


def _held_by(leaf: Leaf, array: Object, live: Object) -> Any:
    if leaf.form.holds == "numpy" and isinstance(live, np.ndarray):
        return np.array(array, live.dtype)
    if isinstance(live, bool) and leaf.shape == () and leaf.form.dtype == bool:
        return bool(array)
    return plain_value(leaf, array)


def _constant(node: Constant, live: Object) -> Any:
    if node.error is not None and live is not ABSENT and type(live) is type(node.value):
        return live
    if live is not ABSENT and type(live) is type(node.value) and canonical(live) == node.key:
        return live
    return np.array(node.value) if type(node.value) is np.ndarray else node.value


def _same(held: Object, new: Object) -> bool:
    if held is new:
        return True
    if isinstance(held, jax.Array) and isinstance(new, jax.Array) and not held.is_deleted():
        return held.dtype == new.dtype and canonical(held) == canonical(new)
    return type(held) is type(new) and isinstance(held, (int, float, complex)) and held == new
