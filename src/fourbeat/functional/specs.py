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
    implementation: str | None = None  # of a PRNG key, which is stored as its data


@dataclasses.dataclass(frozen=True)
class Constant:
    """A value that stays as it is; two with equal keys are interchangeable."""

    path: str
    key: Object
    value: Object = dataclasses.field(compare=False, repr=False)
    error: FunctionalizeError | None = dataclasses.field(compare=False, default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class Fresh:
    """A token of the trace that made an NNX object; made anew in every clone."""


@dataclasses.dataclass(frozen=True)
class Again:
    """An object or NumPy array that was met before, by its position in the order of meeting."""

    index: int


@dataclasses.dataclass(frozen=True)
class Node:
    """A composite: its type, what is fixed about it, and its parts. `index` where it is mutable."""

    path: str
    family: Family
    kind: type
    fixed: Object
    labels: tuple[Label, ...]
    children: tuple["AnyNode", ...]
    index: int | None
    value: Object = dataclasses.field(compare=False, repr=False, default=None)  # where it is fixed

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
    """A NumPy array: a leaf where it is written in place, else a constant that must not be written."""

    held: Leaf | Constant
    index: int


AnyNode = Leaf | Constant | Fresh | Again | Node | Box
Roots: TypeAlias = tuple[Any, ...]  # the objects that were given to `functionalize`
Leaves: TypeAlias = tuple[Any, ...]  # one array for each of `Spec.leaves`; shapes where nothing is computed


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
    """The fixed part of a state. Equal ones are one object, so comparing them costs nothing."""

    is_opaque = True  # kept as it is inside other objects
    __slots__ = ("__weakref__", "arrays", "identities", "leaves", "policy", "roots")

    def __init__(self, roots: tuple[AnyNode, ...], identities: Leaf | None, policy: StatePolicy):
        self.roots = roots
        self.identities = identities  # the last leaf, where methods move or replace objects
        self.policy = policy
        own = tuple(leaf for root in roots for leaf in leaves_of(root))
        self.leaves = own if identities is None else (*own, identities)
        self.arrays = tuple(path for root in roots for path in _constant_arrays(root))

    def __repr__(self):
        return f"Spec({', '.join(describe(leaf) for leaf in self.leaves)})"


def interned_spec(roots: tuple[AnyNode, ...], identities: Leaf | None, policy: StatePolicy) -> Spec:
    """The one spec for this object graph and policy."""
    return intern((Spec, roots, identities, policy), lambda: Spec(roots, identities, policy))


def leaves_of(node: AnyNode) -> Iterator[Leaf]:
    """The leaves below a node, in order."""
    if isinstance(node, Leaf):
        yield node
    elif isinstance(node, Box):
        yield from leaves_of(node.held)
    elif isinstance(node, Node):
        for child in node.children:
            yield from leaves_of(child)


def nodes_of(node: AnyNode) -> Iterator[Node]:
    """The composites of a graph, outermost first."""
    if isinstance(node, Node):
        yield node
        for child in node.children:
            yield from nodes_of(child)


def constants_of(node: AnyNode) -> Iterator[Constant]:
    """The values that stay as they are, but for NumPy arrays."""
    if isinstance(node, Constant):
        yield node
    elif isinstance(node, Node):
        for child in node.children:
            yield from constants_of(child)


def functions_of(node: AnyNode) -> Iterator[types.FunctionType]:
    """The functions of a graph: those that are fixed, and others without what they close over."""
    for each in nodes_of(node):
        if each.kind is types.FunctionType:
            code, scope, name, own = each.fixed
            cells = tuple(map(_constant_cell, each.children[: len(code.co_freevars)]))
            bare = types.FunctionType(code, scope.value, name, None, cells)
            if own is not None:
                bare.__dict__ = own.value
            yield each.value or bare


def _constant_cell(node: AnyNode) -> types.CellType:
    """A cell that holds what the cell of a clone holds, where that stays as it is."""
    inner = node.children[0] if isinstance(node, Node) and node.children else None
    is_constant = isinstance(inner, Constant) and inner.error is None
    return types.CellType(inner.value) if is_constant else types.CellType()  # pyright: ignore


def _constant_arrays(node: AnyNode) -> Iterator[str]:
    if isinstance(node, Box) and isinstance(node.held, Constant):
        yield node.held.path
    elif isinstance(node, Node):
        for child in node.children:
            yield from _constant_arrays(child)


def differ_in_weakness_only(before: Spec, after: Spec) -> bool:
    """Whether the specs are one but for arrays that no longer yield to other dtypes."""
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
        {path: text for root in spec.roots for path, text in _descriptions(root)} for spec in (before, after)
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


def _descriptions(node: AnyNode) -> Iterator[tuple[str, str]]:
    if isinstance(node, Box):
        yield from _descriptions(node.held)
    elif isinstance(node, Leaf):
        yield node.path, describe(node).partition(": ")[2]
    elif isinstance(node, Constant):
        yield node.path, f"the constant {node.value!r}"
    elif isinstance(node, Node):
        items = sum(kind in ("item", "key", "element") for kind, _ in node.labels)
        yield node.path, f"{node.kind.__name__}" + (f" of {items}" if items else "")
        for child in node.children:
            yield from _descriptions(child)


def child_path(path: str, label: Label) -> str:
    """The path of a part: `layers[0].weight`."""
    if path == "":
        return "" if label[0] == "self" else suffix(label).lstrip(".")
    return path + suffix(label)
