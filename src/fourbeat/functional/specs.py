"""What is fixed about a state: the shape of the object graph, and which of its numbers are state."""

import dataclasses
import types
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeAlias

from fourbeat.functional.forms import Form
from fourbeat.functional.refusals import FunctionalizeError
from fourbeat.objects.families import Family, Label, suffix
from fourbeat.trees.interning import intern
from fourbeat.trees.paths import lies_in
from fourbeat.types import Object


@dataclasses.dataclass(frozen=True)
class Leaf:
    """The place of one array of the state. `shape` is that of one object, without batch axes."""

    path: str
    shape: tuple[int, ...]
    form: Form
    implementation: str | None = None  # the implementation of a PRNG key; the leaf stores the key's data


@dataclasses.dataclass(frozen=True)
class Constant:
    """A value that stays as it is; two with equal keys are interchangeable."""

    path: str
    key: Object
    value: Object = dataclasses.field(compare=False, repr=False)
    error: FunctionalizeError | None = dataclasses.field(compare=False, default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class Fresh:
    """A token of the trace that made an NNX object; every clone makes a new one."""


@dataclasses.dataclass(frozen=True)
class Again:
    """An object or NumPy array that was met before, by its position in the order of meeting."""

    index: int


@dataclasses.dataclass(frozen=True)
class Node:
    """A composite: its type, what is fixed about it, and its parts. A mutable one has an `index`."""

    path: str
    family: Family
    kind: type
    fixed: Object
    labels: tuple[Label, ...]
    children: tuple["AnyNode", ...]
    index: int | None
    value: Object = dataclasses.field(compare=False, repr=False, default=None)  # the value, if it is fixed

    @cached_property
    def is_fixed(self) -> bool:
        """Whether nothing in it can change, so that the value itself serves every clone."""
        return self.index is None and all(
            (isinstance(child, Constant) and child.error is None)
            or (isinstance(child, Node) and child.is_fixed)
            for child in self.children
        )


@dataclasses.dataclass(frozen=True)
class Box:
    """A NumPy array: a leaf if it is written in place, else a constant that must not be written."""

    held: Leaf | Constant
    index: int


AnyNode = Leaf | Constant | Fresh | Again | Node | Box
Roots: TypeAlias = tuple[Any, ...]  # the objects that were given to `functionalize`
Leaves: TypeAlias = tuple[Any, ...]  # one array for each of `Spec.leaves`, or only its shape


@dataclasses.dataclass(frozen=True)
class StatePolicy:
    """Which numbers are state: `forms` were seen to change; `static` and `state` are asked for."""

    forms: tuple[tuple[str, Form], ...] = ()
    static: tuple[str, ...] = ()
    state: tuple[str, ...] = ()

    @cached_property
    def form_at(self) -> Mapping[str, Form]:
        """The form of each path that was seen to change."""
        return dict(self.forms)

    def with_forms(self, forms: Mapping[str, Form]) -> "StatePolicy":
        """The same policy with more paths, or wider ones."""
        merged = {**self.form_at, **forms}
        return dataclasses.replace(self, forms=tuple(sorted(merged.items(), key=lambda i: i[0])))

    def keeps_static(self, path: str) -> bool:
        """Whether the user asked for `path` to stay a constant."""
        return any(lies_in(path, asked) for asked in self.static)

    def makes_state(self, path: str) -> bool:
        """Whether the user asked for `path` to be state."""
        return any(lies_in(path, asked) for asked in self.state)


class Spec:
    """The fixed part of a state. Equal specs are one object, so comparing them costs nothing."""

    is_opaque = True  # other objects that hold it keep it as it is
    __slots__ = ("__weakref__", "arrays", "identities", "leaves", "policy", "roots")

    def __init__(self, roots: tuple[AnyNode, ...], identities: Leaf | None, policy: StatePolicy):
        self.roots = roots
        self.identities = identities  # the last leaf, if methods move or replace objects
        self.policy = policy
        nodes = [node for root in roots for node in walk(root)]
        own = tuple(node for node in nodes if isinstance(node, Leaf))
        self.leaves = own if identities is None else (*own, identities)
        boxed = [node.held for node in nodes if isinstance(node, Box)]
        self.arrays = tuple(held.path for held in boxed if isinstance(held, Constant))

    def __repr__(self):
        return f"Spec({', '.join(describe(leaf) for leaf in self.leaves)})"


def interned_spec(roots: tuple[AnyNode, ...], identities: Leaf | None, policy: StatePolicy) -> Spec:
    """The one spec for this object graph and policy."""
    return intern((Spec, roots, identities, policy), lambda: Spec(roots, identities, policy))


def walk(node: AnyNode) -> Iterator[AnyNode]:
    """A node and all that is below it, in order; what a box holds comes right after the box."""
    yield node
    for child in node.children if isinstance(node, Node) else ():
        yield from walk(child)
    if isinstance(node, Box):
        yield node.held


def function_of(node: Node) -> types.FunctionType:
    """The function itself if it is fixed, else a function that closes over constants alone."""
    if node.value is not None:
        return node.value
    code, scope, name, own = node.fixed
    cells = tuple(map(_constant_cell, node.children[: len(code.co_freevars)]))
    bare = types.FunctionType(code, scope.value, name, None, cells)
    if own is not None:
        bare.__dict__ = own.value
    return bare


def _constant_cell(node: AnyNode) -> types.CellType:
    """A cell with the content of a clone's cell, if that content is constant; else an empty cell."""
    inner = node.children[0] if isinstance(node, Node) and node.children else None
    is_constant = isinstance(inner, Constant) and inner.error is None
    return types.CellType(inner.value) if is_constant else types.CellType()  # pyright: ignore


def differ_in_weakness_only(before: Spec, after: Spec) -> bool:
    """Whether the specs differ only in arrays that have lost their weak type."""
    alike = [_settled(root) for root in before.roots] == [_settled(root) for root in after.roots]
    return alike and before.identities == after.identities


def _settled(node: AnyNode) -> AnyNode:
    match node:
        case Leaf():
            return dataclasses.replace(node, form=dataclasses.replace(node.form, weak=False))
        case Box():
            return Box(_settled(node.held), node.index)  # pyright: ignore[reportArgumentType]
        case Node():
            return dataclasses.replace(node, children=tuple(map(_settled, node.children)))
        case _:
            return node


def differences(before: Spec, after: Spec) -> list[str]:
    """How the structure of a state changed, a line for each path."""
    old, new = (
        {
            node.path: _described(node)
            for root in spec.roots
            for node in walk(root)
            if isinstance(node, Leaf | Constant | Node)
        }
        for spec in (before, after)
    )
    lines = [
        f"{path or 'the object'}: {old.get(path, 'absent')} became {new.get(path, 'absent')}"
        for path in {**old, **new}
        if old.get(path) != new.get(path)
    ]
    return lines or ["objects changed places, which F.init did not see: name the method in its methods="]


def describe(leaf: Leaf) -> str:
    """A leaf as a person reads it: `n: ~int32[]`, where `~` is JAX's sign for a weak type."""
    shape = ",".join(map(str, leaf.shape))
    weak = "~" if leaf.form.weak else ""
    return f"{leaf.path}: {weak}{leaf.form.dtype}[{shape}]"


def _described(node: Leaf | Constant | Node) -> str:
    if isinstance(node, Leaf):
        return describe(node).partition(": ")[2]
    if isinstance(node, Constant):
        return f"the constant {node.value!r}"
    items = sum(kind in ("item", "key", "element") for kind, _ in node.labels)
    return f"{node.kind.__name__}" + (f" of {items}" if items else "")


def child_path(path: str, label: Label) -> str:
    """The path of a part: `layers[0].weight`."""
    if path == "":
        return "" if label[0] == "self" else suffix(label).lstrip(".")
    return path + suffix(label)
