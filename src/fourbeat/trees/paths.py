"""Paths of leaves: as keys of nested dicts, and as a person reads them."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import jax

from fourbeat.types import Object, Tree

Path = tuple[Hashable, ...]


def key_of(entry: Object) -> Hashable:
    """The plain key of one entry of a JAX key path.

    >>> [key_of(e) for e, in [p for p, _ in jax.tree_util.tree_flatten_with_path({"a": 1})[0]]]
    ['a']
    """
    for name in ("key", "name", "idx"):
        if hasattr(entry, name):
            return getattr(entry, name)
    return str(entry)


def plain_path(key_path: Iterable[Any]) -> Path:
    """The plain keys of a JAX key path."""
    return tuple(map(key_of, key_path))


def render(root: str, path: Path) -> str:
    """How a person writes the place of a leaf in a nested dict.

    >>> render("params", ("conv1", "kernel")), render("rest", ("layers", 0))
    ("params['conv1']['kernel']", "rest['layers'][0]")
    """
    return root + "".join(f"[{key!r}]" for key in path)


def render_attribute(root: str, path: Path) -> str:
    """How a person writes the place of an attribute of an object.

    >>> render_attribute("model", ("layers", 0, "kernel"))
    'model.layers[0].kernel'
    """
    return root + "".join(
        f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]" for key in path
    )


def lies_in(path: str, prefix: str) -> bool:
    """Whether a rendered path is `prefix` or a place below it.

    >>> lies_in("self.cache['a']", "self.cache"), lies_in("self.cached", "self.cache")
    (True, False)
    """
    return path == prefix or (path.startswith(prefix) and path[len(prefix)] in ".[")


def nest(items: Iterable[tuple[Path, Any]]) -> dict:
    """Nested plain dicts that hold each value at its path.

    >>> nest([(("a", "b"), 1), (("a", "c"), 2)])
    {'a': {'b': 1, 'c': 2}}
    """
    root: dict = {}
    for path, value in items:
        node = root
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    return root


def look_up(nested: Mapping, path: Path) -> Tree:
    """The value at `path` of nested dicts; raises `KeyError` where there is none."""
    for key in path:
        nested = nested[key]
    return nested


def overlaid(nested: Mapping, part: Mapping) -> dict:
    """Nested dicts in which the values of `part` replace those at the same paths.

    >>> overlaid({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
    {'a': {'b': 1, 'c': 3}}
    """
    return {
        key: value
        if key not in part
        else (overlaid(value, part[key]) if isinstance(value, Mapping) else part[key])
        for key, value in nested.items()
    }


def map_part(function: Callable, part: Mapping, *others: Mapping) -> dict:
    """Applies `function` to each value of `part` and to the values at the same path in `others`.

    The others may hold more; what they hold beside is left out.

    >>> map_part(max, {"a": {"c": 3}}, {"a": {"b": 1, "c": 5}})
    {'a': {'c': 5}}
    """
    return {
        key: map_part(function, value, *(other[key] for other in others))
        if isinstance(value, Mapping)
        else function(value, *(other[key] for other in others))
        for key, value in part.items()
    }


def leaves_with_paths(tree: Tree, root: str = "") -> list[tuple[str, Any]]:
    """Every leaf of a pytree beside the place that a person would write for it.

    >>> leaves_with_paths({"a": (1, 2)}, "batch")
    [("batch['a'][0]", 1), ("batch['a'][1]", 2)]
    """
    return [
        (root + jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    ]
