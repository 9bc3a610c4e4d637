"""Takes an object graph apart into leaves and an interned spec."""

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.nnx import tracers

from fourbeat.functional import identities, refusals
from fourbeat.functional.forms import Form, check_fits, fitting_dtype, form_of_number
from fourbeat.functional.identities import Origins
from fourbeat.functional.numpy_boxes import NumpyBox
from fourbeat.functional.specs import (
    Again,
    AnyNode,
    Box,
    Constant,
    Fresh,
    Leaf,
    Leaves,
    Node,
    Spec,
    StatePolicy,
    child_path,
    interned_spec,
)
from fourbeat.objects.attributes import is_sentinel
from fourbeat.objects.constants import is_number, why_unusable, wrapped_function
from fourbeat.objects.families import Mutable, Objects, family_of
from fourbeat.objects.lines import Line
from fourbeat.trees.articles import a_type
from fourbeat.trees.interning import ById, canonical
from fourbeat.trees.paths import lies_in
from fourbeat.types import Object

_TRACER_TEXT = re.compile(r"Tracer[<(]|Traced<")  # str() of a tracer contains one of these


@dataclasses.dataclass(frozen=True)
class Incoming:
    """What a clone held at a path when it was made: its node, and the shape of its leaf then."""

    node: Leaf | Constant
    shape: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Flat:
    """A flattened object graph.

    `promoted`: paths that were seen to change for the first time. `objects`: the mutable objects, in
    the order in which they were met. `copied`: NumPy arrays that NumPy copied, because boxes stood in their
    place. `unsure`: lines where an operator wrote to a box in place, with a traced value.
    """

    spec: Spec
    leaves: Leaves
    promoted: Mapping[str, Form]
    objects: tuple[Any, ...] = ()
    copied: tuple[str, ...] = ()
    unsure: frozenset[Line] = frozenset()


def flatten(
    roots: Sequence[Any],
    names: Sequence[str],
    policy: StatePolicy,
    incoming: Mapping[str, Incoming] | None = None,
    origins: Origins | None = None,
    *,
    copy: bool = False,
) -> Flat:
    """Leaves and spec of the objects `roots`, whose paths start with `names`.

    Args:
      roots: the objects.
      names: one path for each root; "" for a single object.
      policy: says which numbers are state.
      incoming: what the clone held when it was made; numbers that differ from it become state.
      origins: the objects of the clone; if they moved, their places become state too.
      copy: give every leaf a buffer of its own.

    Returns:
      The leaves as JAX arrays with no weak type, the interned spec, and what became state.

    Raises:
      FunctionalizeError: a value has no place in a state.
    """
    walk = _Flattening(policy, incoming or {}, origins, copy)
    nodes = tuple(walk.visit(root, name, None) for root, name in zip(roots, names, strict=True))
    walk.check_memory()
    numbers = walk.numbers()
    grown = policy.with_forms(walk.promoted) if walk.promoted else policy
    spec = interned_spec(nodes, numbers, grown)
    return Flat(spec, tuple(walk.leaves), walk.promoted, tuple(walk.objects))


class _Flattening:
    def __init__(
        self, policy: StatePolicy, incoming: Mapping[str, Incoming], origins: Origins | None, copy: bool
    ):
        self.policy = policy
        self.incoming = incoming
        self.origins = origins
        self.copy = copy
        self.leaves: list[Any] = []
        self.promoted: dict[str, Form] = {}
        self.met: dict[int, int] = {}
        self.objects: list[Any] = []  # kept alive, because the ids in `met` must not be reused
        self.paths: list[str] = []
        self.moved: list[tuple[str, str]] = []  # where objects are now, and where they were
        self.arrays: list[tuple[str, np.ndarray, bool]] = []

    def visit(self, value: Object, path: str, holder: type | None) -> AnyNode:
        if isinstance(value, NumpyBox):
            return self._box(value, path)
        if type(value) is refusals.Forbidden:
            return object.__getattribute__(value, "_fourbeat_node")
        if isinstance(value, jax.Array):
            return self._array(value, path)
        if type(value) is np.ndarray and not value.dtype.hasobject:
            return self._numpy(value, path)
        if is_number(value):
            return self._number(value, path)
        if isinstance(value, bool) and self.policy.makes_state(path):
            return self._leaf(np.asarray(value), path, Form(jnp.dtype(bool), False, "number", bool))
        if isinstance(value, tracers.TraceState):
            return Fresh()
        if id(value) in self.met:
            return Again(self.met[id(value)])
        return self._composite(value, path, holder)

    def _composite(self, value: Object, path: str, holder: type | None) -> AnyNode:
        unusable = why_unusable(value)
        if unusable is not None:
            error = refusals.unusable(path or type(value).__name__, *unusable)
            return Constant(path, canonical(value), value, error)
        inner = wrapped_function(value)
        if inner is not None:
            return self._wrapped(value, inner, path)
        family = family_of(value)
        _check_text(value, path)
        if family is None or (holder and is_sentinel(value, _module_of(holder))):
            return Constant(path, canonical(value), value)
        index = self._meet(value, path) if isinstance(family, Mutable) else None
        parts = family.parts(value)
        if any(
            kind in ("key", "element") and family_of(name) and type(name) is not tuple
            for kind, name in parts.labels
        ):
            error = refusals.unusable(path, f"{a_type(value)} keyed by objects", "key it by names or numbers")
            return Constant(path, canonical(ById(value)), value, error)
        for kind, name in parts.labels:
            if kind in ("key", "element"):
                _check_text(name, path)
        children = tuple(
            self.visit(part, child_path(path, label), type(value))
            for label, part in zip(parts.labels, parts.values, strict=True)
        )
        node = Node(path, family, type(value), parts.fixed, parts.labels, children, index)
        # A spec outlives the trace: it may hold fixed values, but nothing that can hold a tracer.
        return dataclasses.replace(node, value=value) if node.is_fixed else node

    def _wrapped(self, value: Object, inner: Object, path: str) -> Constant:
        trial = _Flattening(StatePolicy(), {}, None, copy=False)
        trial.met = dict(self.met)
        node = trial.visit(inner, path, None)
        error = None
        if not _captures_values_only(node):
            kind = f"a compiled or cached function ({type(value).__name__}) over a stateful object"
            repair = "keep the plain method, and compile outside: jax.jit(F.method)"
            error = refusals.unusable(path, kind, repair)
        return Constant(path, canonical(value), value, error)

    def _meet(self, value: Object, path: str) -> int:
        index = self.met[id(value)] = len(self.met)
        self.objects.append(value)
        self.paths.append(path)
        origin = self.origins.path_of(value) if self.origins else None
        if origin is not None and origin != path:
            self.moved.append((path, origin))
        return index

    # Numbers -----------------------------------------------------------------------------------

    def _number(self, value: Object, path: str) -> AnyNode:
        form = self.policy.form_at.get(path)
        before = self._constant_before(path)
        if self.policy.keeps_static(path):
            return Constant(path, canonical(value), value)
        was = before.value if before is not None else None
        if form is None and is_number(was) and canonical(was) != canonical(value):
            form = form_of_number(was, path).joined(form_of_number(value, path))
            self._promote(path, form)
        if form is None and self.policy.makes_state(path):
            form = form_of_number(value, path)
        held = self.incoming.get(path)
        if form is None and held is not None and isinstance(held.node, Leaf) and held.shape == ():
            form = held.node.form  # an array that a method resets to a Python number
        if form is None or form.holds not in ("number", "array"):
            return Constant(path, canonical(value), value)
        return self._leaf(value, path, self._widened(path, form, form_of_number(value, path)))

    def _widened(self, path: str, form: Form, seen: Form) -> Form:
        joined = form.joined(seen)
        if joined != form:
            self.promoted[path] = joined
        return joined

    # Arrays ------------------------------------------------------------------------------------

    def _array(self, value: jax.Array, path: str) -> Leaf:
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            data = jax.random.key_data(value)
            return self._leaf(data, path, Form(data.dtype, False, "key"), str(jax.random.key_impl(value)))
        seen = Form(jnp.dtype(value.dtype), bool(getattr(value, "weak_type", False)))
        form = self.policy.form_at.get(path) or self._number_before(path)
        before = self._constant_before(path)
        if form is None and before is not None and not self.policy.keeps_static(path):
            form = _form_before(before, value, path)
            if form is not None:
                self._promote(path, form)
        if form is not None and form.holds == "number" and value.shape == ():
            return self._leaf(value, path, self._widened(path, form, seen))
        if form is not None and form.holds in ("numpy", "box"):
            return self._leaf(value, path, Form(seen.dtype, seen.weak, "numpy"))
        return self._leaf(value, path, self._settled(path, seen))

    def _number_before(self, path: str) -> Form | None:
        before = self.incoming.get(path)
        node = before.node if before is not None else None
        return node.form if isinstance(node, Leaf) and node.form.holds == "number" else None

    def _settled(self, path: str, seen: Form) -> Form:
        before = self.incoming.get(path)
        was = before.node.form if before and isinstance(before.node, Leaf) else None
        asked = self.policy.form_at.get(path)
        was = asked if asked is not None and asked.holds == "array" else was
        if was is None or was.dtype != seen.dtype or was.weak == seen.weak:
            return seen
        strong = dataclasses.replace(seen, weak=False)
        if was.weak:
            self.promoted[path] = strong
        return strong

    def _numpy(self, value: np.ndarray, path: str) -> AnyNode:
        if id(value) in self.met:
            return Again(self.met[id(value)])
        form = self._numpy_form(value, path)
        if form is not None and form.holds == "numpy":
            return self._leaf(value, path, form)
        self.arrays.append((path, value, form is not None))
        index = self._meet(value, path)
        if form is not None:
            return Box(self._leaf(value, path, form), index)
        before = self._constant_before(path)
        if before is not None and value is before.value:
            return Box(before, index)
        kept = np.array(value)
        kept.flags.writeable = False
        return Box(Constant(path, canonical(value), kept), index)

    def _numpy_form(self, value: np.ndarray, path: str) -> Form | None:
        form = self.policy.form_at.get(path)
        if self.policy.keeps_static(path):
            return None
        if form is None and self.policy.makes_state(path):
            form = Form(None, False, "box")
        before = self._constant_before(path)
        if form is None and before is not None and type(before.value) is np.ndarray:
            changed = value is not before.value and before.key != canonical(value)
            if changed and before.value.shape == value.shape:
                is_moved = self.origins is not None and self.origins.path_of(value) is not None
                form = Form(fitting_dtype(value, path), False, "box" if is_moved else "numpy")
                self._promote(path, form)
        if form is None or form.holds not in ("numpy", "box"):
            return None
        return Form(fitting_dtype(value, path), False, form.holds)

    def _box(self, box: NumpyBox, path: str) -> AnyNode:
        store = box.store
        if not box.is_whole:
            raise refusals.shares_memory(path, store.path)
        if id(store) in self.met:
            return Again(self.met[id(store)])
        index = self._meet(store, path)
        if not store.written and path == store.path and isinstance(store.node, Constant):
            return Box(store.node, index)
        value = jnp.asarray(store.value)
        form = Form(jnp.dtype(value.dtype), False, "box")
        for each in (path, store.path):  # both paths, if the array moved
            if each in self.incoming and not isinstance(self.incoming[each].node, Leaf):
                self.promoted[each] = form
        return Box(self._leaf(value, path, form), index)

    # Identities --------------------------------------------------------------------------------

    def numbers(self) -> Leaf | None:
        """The leaf of the objects' numbers, if the policy has one or objects moved for the first time."""
        form = self.policy.form_at.get(identities.PATH)
        if self.origins is None:
            numbers = identities.first_numbers(len(self.objects))
        else:
            numbers = self.origins.numbers_of(self.objects)
            if form is None and self.origins.moved(self.objects, self.paths):
                form = self.promoted[identities.PATH] = identities.UNSEEN
        return None if form is None else self._leaf(numbers, identities.PATH, form)

    def check_memory(self) -> None:
        """Raises if an array that is written in place shares its memory with another attribute."""
        for boxed_path, boxed, is_box in self.arrays:
            for other_path, other, _ in self.arrays:
                if is_box and other is not boxed and np.may_share_memory(boxed, other):
                    raise refusals.shares_memory(boxed_path, other_path)

    # Leaves ------------------------------------------------------------------------------------

    def _leaf(self, value: Object, path: str, form: Form, implementation: str | None = None) -> Leaf:
        if is_number(value):
            check_fits(value, form.dtype, path)
            value = np.asarray(value, form.dtype)
        shape = tuple(np.shape(value))
        before = self.incoming.get(path)
        if before is not None and isinstance(before.node, Leaf) and before.shape == shape:
            shape = before.node.shape
        array = jax.lax.convert_element_type(value, form.dtype)
        self.leaves.append(jnp.array(array, copy=True) if self.copy else array)
        return Leaf(path, shape, form, implementation)

    def _promote(self, path: str, form: Form) -> None:
        for each in {path, self._was(path)}:
            before = self.incoming.get(each)
            if each == path or (before is not None and isinstance(before.node, Constant)):
                self.promoted[each] = form

    def _constant_before(self, path: str) -> Constant | None:
        before = self.incoming.get(path) or self.incoming.get(self._was(path))
        return before.node if before and isinstance(before.node, Constant) else None

    def _was(self, path: str) -> str:
        """Where the object at `path` was when the clone was made."""
        for now, origin in reversed(self.moved):
            if lies_in(path, now):
                return origin + path[len(now) :]
        return path


def _captures_values_only(node: AnyNode) -> bool:
    """Whether a function holds arrays and constants, and no object whose state could change."""
    if isinstance(node, Node):
        is_object = isinstance(node.family, Objects)
        return not is_object and all(map(_captures_values_only, node.children))
    return isinstance(node, Leaf) or (isinstance(node, Constant) and node.error is None)


def _form_before(before: Constant, value: jax.Array, path: str) -> Form | None:
    seen = Form(jnp.dtype(value.dtype), bool(value.weak_type))
    if is_number(before.value) and value.shape == ():
        return form_of_number(before.value, path).joined(seen)
    if type(before.value) is np.ndarray and before.value.shape == value.shape:
        return Form(seen.dtype, False, "numpy")
    return None


def _check_text(value: Object, path: str) -> None:
    if isinstance(value, str) and _TRACER_TEXT.search(value):
        raise refusals.traced_text(path, value)


def _module_of(kind: type) -> dict[str, Any] | None:
    module = sys.modules.get(kind.__module__)
    return vars(module) if module else None
