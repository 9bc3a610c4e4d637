"""NNX modules (and pytrees that hold them) taken apart into leaves, and put together again."""

import dataclasses
import inspect
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax
from flax import nnx
from flax.nnx import graphlib
from flax.typing import HashableMapping

from fourbeat.models.parts import ModelLeaf, Parts
from fourbeat.objects.reaching import holds_nothing
from fourbeat.trees.articles import a_type
from fourbeat.trees.interning import canonical
from fourbeat.trees.paths import Path, plain_path, render_attribute
from fourbeat.types import Model, Object


def is_module(model: Model) -> bool:
    """Whether `model` is an NNX module or a pytree with one inside."""
    leaves = jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, nnx.Pytree | nnx.Variable))
    return any(isinstance(leaf, nnx.Pytree | nnx.Variable) for leaf in leaves)


def train_mode(model: Model) -> None:
    """Puts every NNX module of `model` into training mode, in place."""
    for module in outermost_modules(model):
        module.train()


def eval_mode(model: Model) -> None:
    """Puts every NNX module of `model` into evaluation mode, in place."""
    for module in outermost_modules(model):
        module.eval()


def take_apart(model: Model) -> Parts:
    """The leaves of an NNX graph and all that is needed to build an equal graph, in evaluation mode.

    Args:
      model: an NNX module or a pytree with modules inside; it is not changed.

    Returns:
      The parts, in graph order. Variables that are shared appear once, at their first path.
    """
    graphdef, variables = graphlib.flatten(model, graph=True)
    reading = _Reading(graphdef)
    if reading.has_own_modes:
        clone = nnx.clone(model, graph=True)
        eval_mode(clone)
        graphdef, variables = graphlib.flatten(clone, graph=True)
        reading = _Reading(graphdef)
    else:
        graphdef = dataclasses.replace(graphdef, attributes=reading.attributes)
    leaves, treedefs = [], []
    for path, variable in variables:
        value = _value_of(variable) if isinstance(variable, nnx.Variable) else variable
        if isinstance(value, jax.Array):
            treedefs.append(_LEAF)
            leaves.append(ModelLeaf(path, value, variable))
            continue
        inner, treedef = jax.tree_util.tree_flatten_with_path(value)
        treedefs.append(treedef)
        leaves.extend(ModelLeaf((*path, *plain_path(p)), leaf, variable) for p, leaf in inner)

    def rebuild(values: list) -> Any:
        given = iter(values)
        return graphlib.unflatten(
            graphdef,
            [treedef.unflatten([next(given) for _ in range(treedef.num_leaves)]) for treedef in treedefs],
        )

    paths = variables.paths
    of_values = tuple(_VALUE if treedef is _LEAF else ("value", canonical(treedef)) for treedef in treedefs)

    def describe() -> tuple[tuple[Path, Hashable], ...]:
        return (*_describe(graphdef), *zip(paths, of_values, strict=True))

    return Parts(leaves, (tuple(reading.nodes), of_values), describe, rebuild, reading.values)


def outermost_modules(model: Model) -> list[nnx.Module]:
    """The modules of `model` that are not inside another module; `model` itself if it is a module."""
    nodes = jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, nnx.Module))
    return [node for node in nodes if isinstance(node, nnx.Module)]


def _value_of(variable: nnx.Variable) -> Any:
    value = variable.get_raw_value()
    is_as_kept = type(variable).get_value is nnx.Variable.get_value
    is_as_kept &= isinstance(value, jax.Array) and not variable.has_metadata("on_get_value")
    return value if is_as_kept else variable.get_value()


class _Reading:
    """One pass over a graph definition.

    Attributes:
      nodes: the canonical form of every node with its static attributes, in evaluation mode. Equal layers
        share one form, because a new form for each layer costs time in the garbage collector too.
      attributes: of the graph definition, as evaluation mode sets them.
      values: the attributes themselves, without Flax's own records and values that hold nothing.
      has_own_modes: whether a module may switch to evaluation mode in its own way. The other fields then
        describe the graph as it is.
    """

    def __init__(self, graphdef: graphlib.GraphDef):
        self.nodes: list[Hashable] = []
        self.attributes = list(graphdef.attributes)
        self.values: dict[str, Any] = {}
        self.has_own_modes = False
        self._to_read, self._place = iter(graphdef.nodes), 0
        self._known: dict[Hashable, Hashable] = {}
        self._in_class: dict[type, set[str]] = {}
        self._visit(())

    def _visit(self, path: Path) -> None:
        node = next(self._to_read)
        if isinstance(node, graphlib.NodeDef):
            self._visit_node(path, node)
        elif isinstance(node, graphlib.VariableDef):
            metadata = node.metadata
            for name, value in metadata.items():
                if not holds_nothing(value):
                    self._hold((*path, name), value)
            key = (node.type, _same(metadata))
            self._add(key, lambda: (node.type, canonical(dict(metadata))))
        elif isinstance(node, graphlib.NodeRef):
            self.nodes.append(("the same object as number", node.index))
        else:
            raise TypeError(
                f"model{''.join(f'.{key}' for key in path)} is {a_type(node)}, which fourbeat "
                "cannot hold as explicit state. Use an nnx.Variable without references."
            )

    def _visit_node(self, path: Path, node: graphlib.NodeDef) -> None:
        is_module = issubclass(node.type, nnx.Module)
        place = len(self.nodes)
        self.nodes.append(None)  # a node comes before the nodes that it holds
        names, ids, own = [], [], []
        for _ in range(node.num_attributes):
            name, attribute = self.attributes[self._place]
            names.append(name)
            own.append(attribute)
            is_mode = is_module and name in _MODES
            if isinstance(attribute, graphlib.Static):
                if is_mode:
                    own[-1] = attribute = graphlib.Static(True)
                    self.attributes[self._place] = (name, attribute)
                self._place += 1
                ids.append(_same(attribute.value))
                if not holds_nothing(attribute.value):
                    self._hold((*path, name), attribute.value)
                continue
            self._place += 1
            ids.append(id(type(attribute)))
            self.has_own_modes |= is_mode  # the mode replaces an array or a variable
            if isinstance(attribute, graphlib.NodeAttr):
                self._visit((*path, name))
        if is_module:
            self.has_own_modes |= not self._modes_in_class(node.type).issubset(names)
        # Flax makes a new record of its own part for each layer; all these records are equal
        about = node.metadata if path[-1:] == ("_pytree__state",) else id(node.metadata)
        key = (node.type, about, *names, *ids)
        if key not in self._known:
            form = tuple(zip(names, map(_form_of, own), strict=True))
            self._known[key] = (node.type, canonical(node.metadata), form)
        self.nodes[place] = self._known[key]

    def _add(self, key: Hashable, form: Callable[[], Hashable]) -> None:
        if key not in self._known:
            self._known[key] = form()
        self.nodes.append(self._known[key])

    def _hold(self, path: Path, value: Object) -> None:
        if not str(path[-1]).startswith("_pytree__"):
            self.values[render_attribute("model", path)] = value

    def _modes_in_class(self, kind: type) -> set[str]:
        """The attributes that a module must have itself so that `eval` sets the modes and nothing else."""
        if kind not in self._in_class:
            self._in_class[kind] = _modes_in_class(kind)
        return self._in_class[kind]


_LEAF = jax.tree.structure(0)
_VALUE = ("value", canonical(_LEAF))
_MODES = ("deterministic", "use_running_average")  # what `nnx.Module.eval` sets
_WAYS = ("eval", "set_attributes", "__setattr__", "_setattr", "__getattr__")
_NEVER = "no attribute"


def _modes_in_class(kind: type[nnx.Module]) -> set[str]:
    if any(getattr(kind, way, None) is not getattr(nnx.Module, way, None) for way in _WAYS):
        return {_NEVER}
    by_class = {name: inspect.getattr_static(kind, name) for name in _MODES if hasattr(kind, name)}
    return {_NEVER} if any(hasattr(value, "__set__") for value in by_class.values()) else set(by_class)


def _same(value: Object) -> Hashable:
    """A key that is equal for the same object, or for a mapping of Flax with the same items."""
    return (*value, *map(id, value.values())) if type(value) is HashableMapping else id(value)


def _form_of(attribute: Object) -> Hashable:
    if isinstance(attribute, graphlib.Static):
        return canonical(attribute.value)
    return "a node" if isinstance(attribute, graphlib.NodeAttr) else "array"


def _describe(graphdef: graphlib.GraphDef) -> Iterator[tuple[Path, Hashable]]:
    """Every node and static attribute of a graph definition, with its path, in canonical form."""
    nodes, attributes = iter(graphdef.nodes), iter(graphdef.attributes)

    def visit(path: Path) -> Iterator[tuple[Path, Hashable]]:
        node = next(nodes)
        if isinstance(node, graphlib.NodeRef):
            yield path, ("the same object as number", node.index)
        elif isinstance(node, graphlib.VariableDef):
            yield path, (node.type, canonical(dict(node.metadata)))
        elif isinstance(node, graphlib.NodeDef):
            yield path, (node.type, canonical(node.metadata))
            for _ in range(node.num_attributes):
                key, attribute = next(attributes)
                if isinstance(attribute, graphlib.NodeAttr):
                    yield from visit((*path, key))
                else:
                    yield (*path, key), _form_of(attribute)

    yield from visit(())
