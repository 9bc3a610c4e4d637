"""What has changed in a model's structure, place by place."""

import dataclasses
from collections.abc import Hashable, Iterator
from typing import Any

import jax
import numpy as np

from fourbeat.trees.articles import a_type
from fourbeat.trees.interning import canonical
from fourbeat.trees.paths import Path, render_attribute
from fourbeat.types import Object

_MOST_LISTED = 8
IN_A_MODULE = (  # the repair
    "Hold what changes in an nnx.Variable (self.n = nnx.Variable(jnp.array(0)), self.n[...] += 1), and "
    "return intermediates as aux, not by sow."
)
IN_A_TREE = (
    "Give the model all that it will hold before beats.init, each as an array of the shape and dtype that it "
    "will have, and return as aux what is only looked at."
)


def in_structures(before: tuple, after: tuple) -> str:
    """The places where two NNX modules differ, given their structures."""
    return _listed(_in_structures(before, after))


def in_trees(before: Object, after: Object, root: str = "model") -> str:
    """The places where two pytrees differ in more than the values of arrays; `root` names both trees.

    >>> in_trees({"w": 1, "h": [2]}, {"w": 1, "h": (2,), "seen": 3})
    "model['h'] changed from a list to a tuple; model['seen'] appeared"
    """
    return _listed(_in_trees(root, before, after))


def _listed(changes: Iterator[str]) -> str:
    listed = list(changes)
    more = f"; and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
    return ("; ".join(listed[:_MOST_LISTED]) or "its pytree nodes") + more


def _in_structures(before: tuple, after: tuple) -> Iterator[str]:
    def visible(structure: tuple) -> dict[Path, Hashable]:
        # `_pytree__nodes` and the like are Flax's own records of the attributes beside them
        return {p: v for p, v in structure if not (p and str(p[-1]).startswith("_pytree__"))}

    old, new = visible(before), visible(after)
    for path in sorted(old.keys() | new.keys(), key=str):
        name = render_attribute("model", path)
        if path not in old:
            yield f"{name} appeared"
        elif path not in new:
            yield f"{name} is gone"
        elif old[path] != new[path]:
            yield f"{name} changed from {_show(old[path])} to {_show(new[path])}"


def _show(value: Hashable) -> str:
    if isinstance(value, tuple) and len(value) == 2 and value[0] in (bool, int, float, complex):
        return str(value[1])
    if isinstance(value, tuple) and len(value) == 3 and value[0] == "sequence" and value[1] in (list, tuple):
        shown = ", ".join(map(_show, value[2]))
        return f"[{shown}]" if value[1] is list else f"({shown},)" if len(value[2]) == 1 else f"({shown})"
    if isinstance(value, tuple) and len(value) == 5 and value[0] in ("function", "array"):
        _, _, what, shape, _ = value
        if value[0] == "array":
            return f"an array of {what}{list(shape)}"
        return f"the function {what.co_name} of line {what.co_firstlineno}"
    return repr(value)


def _in_trees(name: str, before: Object, after: Object) -> Iterator[str]:
    if _is_array(before) and _is_array(after):
        return
    old, new = _children(before), _children(after)
    if old is None or new is None or type(before) is not type(after):
        is_constant = old is None and new is None and not (_is_array(before) or _is_array(after))
        if not (is_constant and canonical(before) == canonical(after)):
            yield f"{name} changed from {_described(before)} to {_described(after)}"
        return
    found = False
    for key in [*old, *(key for key in new if key not in old)]:
        place = name + key
        if key not in new or key not in old:
            found = True
            yield f"{place} {'is gone' if key not in new else 'appeared'}"
        else:
            for change in _in_trees(place, old[key], new[key]):
                found = True
                yield change
    if not found:
        yield from _in_static_parts(name, before, after, old)


def _in_static_parts(name: str, before: Object, after: Object, children: dict[str, Any]) -> Iterator[str]:
    """What a node holds beside its children: the static fields of a dataclass, or what its type keeps."""
    if canonical(jax.tree.structure(before)) == canonical(jax.tree.structure(after)):
        return
    fields = [field.name for field in dataclasses.fields(before)] if dataclasses.is_dataclass(before) else []
    fields = [field for field in fields if f".{field}" not in children]
    changed = [field for field in fields if _canonical_field(before, field) != _canonical_field(after, field)]
    for field in changed:
        old, new = getattr(before, field, None), getattr(after, field, None)
        yield f"{name}.{field} changed from {old!r} to {new!r}"
    if not changed and not children:
        yield f"{name} changed in what its type {type(before).__name__} holds beside arrays"
    elif not changed:
        yield f"{name} changed in the order or the names of its children"


def _canonical_field(node: Object, field: str) -> Hashable:
    return canonical(getattr(node, field, None))


def _children(node: Object) -> dict[str, Any] | None:
    """The children of a pytree node by key, as a person writes the key; None for a leaf."""
    found, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda each: each is not node)
    if len(found) == 1 and found[0][0] == ():
        return None
    return {jax.tree_util.keystr(path): child for path, child in found}


def _is_array(value: Object) -> bool:
    return isinstance(value, jax.Array | np.ndarray | np.generic)


def _described(value: Object) -> str:
    if value is None:
        return "None"
    if _is_array(value):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value) if _children(value) is None else f"{a_type(value)}"
