"""NNX modules (and pytrees that hold them) taken apart into leaves, and put together again."""

from collections.abc import Hashable, Iterator
from typing import Any

import jax
from flax import nnx
from flax.nnx import graphlib

from fourbeat.models.parts import ModelLeaf, Parts
from fourbeat.trees.interning import canonical
from fourbeat.trees.paths import Path, plain_path, render_attribute
from fourbeat.types import Model


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
    """The leaves of an NNX graph and what it takes to build an equal graph, in evaluation mode.

    Args:
      model: an NNX module or a pytree with modules inside; it is not changed.

    Returns:
      The parts, in graph order. Variables that are shared appear once, at their first path.
    """
    clone = nnx.clone(model, graph=True)
    eval_mode(clone)
    graphdef, variables = graphlib.flatten(clone, graph=True)
    leaves, treedefs = [], []
    for path, variable in variables:
        value = variable.get_value() if isinstance(variable, nnx.Variable) else variable
        inner, treedef = jax.tree_util.tree_flatten_with_path(value)
        treedefs.append(treedef)
        leaves.extend(ModelLeaf((*path, *plain_path(p)), leaf, variable) for p, leaf in inner)

    def rebuild(values: list) -> Any:
        given = iter(values)
        return graphlib.unflatten(
            graphdef,
            [treedef.unflatten([next(given) for _ in range(treedef.num_leaves)]) for treedef in treedefs],
        )

    values: dict[str, Any] = {}
    structure = tuple(_describe(graphdef, values)) + tuple(
        (path, ("value", canonical(treedef))) for path, treedef in zip(variables.paths, treedefs, strict=True)
    )
    return Parts(leaves, structure, rebuild, values)


def outermost_modules(model: Model) -> list[nnx.Module]:
    """The modules of `model` that are inside of no other: itself, where it is one."""
    nodes = jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, nnx.Module))
    return [node for node in nodes if isinstance(node, nnx.Module)]


def _describe(graphdef: graphlib.GraphDef, values: dict[str, Any]) -> Iterator[tuple[Path, Hashable]]:
    """Every node and static attribute of a graph definition, with its path, in canonical form.

    Fills `values` with the attributes themselves, but for Flax's own records.
    """
    nodes, attributes = iter(graphdef.nodes), iter(graphdef.attributes)

    def visit(path: Path) -> Iterator[tuple[Path, Hashable]]:
        node = next(nodes)
        if isinstance(node, graphlib.NodeRef):
            yield path, ("the same object as number", node.index)
        elif isinstance(node, graphlib.VariableDef):
            for name, value in dict(node.metadata).items():
                values[render_attribute("model", (*path, name))] = value
            yield path, (node.type, canonical(dict(node.metadata)))
        elif isinstance(node, graphlib.NodeDef):
            yield path, (node.type, canonical(node.metadata))
            for _ in range(node.num_attributes):
                key, attribute = next(attributes)
                yield from attribute_at((*path, key), attribute)
        else:
            raise TypeError(
                f"model{''.join(f'.{key}' for key in path)} is a {type(node).__name__}, which fourbeat "
                "cannot hold as explicit state. Use an nnx.Variable without references."
            )

    def attribute_at(path: Path, attribute: Any) -> Iterator[tuple[Path, Hashable]]:
        if isinstance(attribute, graphlib.Static):
            if not str(path[-1:]).startswith("('_pytree__"):
                values[render_attribute("model", path)] = attribute.value
            yield path, canonical(attribute.value)
        elif isinstance(attribute, graphlib.NodeAttr):
            yield from visit(path)
        else:
            yield path, "array"

    yield from visit(())
