"""Why two calls of a step, alike in all arrays, are two programs: the first static part that differs."""

import types
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from fourbeat.beats.state import TrainState
from fourbeat.data.batch import Batch
from fourbeat.models.changes import in_structures, in_trees
from fourbeat.models.splitting import Static
from fourbeat.trees.paths import render_attribute
from fourbeat.types import Object


def first_change(before: Object, after: Object, names: Sequence[str] = ("state", "batch")) -> str:
    """What differs between the structures of two calls' arguments, in words.

    Args:
      before: the tree structure of the arguments.
      after: the tree structure of the later call; it has the same leaves.
      names: of the arguments.
    """
    old, new = (jax.tree.unflatten(s, [np.zeros(())] * s.num_leaves) for s in (before, after))
    return next(_changes(old, new, names), "what a pytree node holds beside its arrays")


def _changes(old: Object, new: Object, names: Sequence[str]) -> Iterator[str]:
    is_ours = lambda node: isinstance(node, TrainState | Batch)
    pairs = [jax.tree.leaves(tree, is_leaf=is_ours) for tree in (old, new)]
    for one, other in zip(*pairs, strict=False):
        if isinstance(one, TrainState) and isinstance(other, TrainState):
            if one.static is not other.static:
                yield _of_models(one.static, other.static)
            if one.key_impl != other.key_impl:
                yield f"state.key changed from a key of {one.key_impl} to one of {other.key_impl}"
        elif isinstance(one, Batch) and isinstance(other, Batch):
            yield from _of_batches(one, other)
    text = in_trees(old, new, "args")
    for place, name in enumerate(names):
        text = text.replace(f"args[{place}]", name)
    yield text


def _of_models(old: Static, new: Static) -> str:
    described = [dict(zip(_places(s.structure), s.structure, strict=True)) for s in (old, new)]
    for place in [place for place in described[0] if place in described[1]]:
        by_identity = _by_identity(described[0][place][1], described[1][place][1])
        if by_identity is not None:
            name = render_attribute("model", place[0])
            return (
                f"{name} is compared by identity, and this is another {by_identity}: build it once, or give "
                "its class __eq__ and __hash__"
            )
    if old.identity != new.identity:
        return in_structures(old.structure, new.structure).split("; ")[0]
    for path in [*old.holding.entries, *new.holding.entries]:
        if old.holding.entries.get(path) != new.holding.entries.get(path):
            return f"{path}, in a plain object that the model holds, has changed"
    return "the model's constants are others"


def _places(structure: tuple) -> list[tuple]:
    """Each path with a count: several entries may describe one path."""
    seen: dict[Any, int] = {}
    places = []
    for path, _ in structure:
        seen[path] = seen.get(path, -1) + 1
        places.append((path, seen[path]))
    return places


def _by_identity(old: Hashable, new: Hashable) -> str | None:
    """The type of the first object in two canonical forms that differs only because it is another object."""
    if old == new or type(old) is not type(new):
        return None
    if isinstance(old, tuple) and isinstance(new, tuple):
        found = (_by_identity(one, other) for one, other in zip(old, new, strict=False))
        return next((each for each in found if each is not None), None)
    if isinstance(old, frozenset) and isinstance(new, frozenset):
        return None
    value = getattr(old, "value", old)  # a key of something without a hash holds it as `value`
    has_no_equality = type(value).__eq__ is object.__eq__ or isinstance(value, types.FunctionType)
    return type(value).__name__ if has_no_equality or value is not old else None


def _of_batches(old: Batch, new: Batch) -> Iterator[str]:
    if len(old.transforms) != len(new.transforms):
        yield f"the batch had {len(old.transforms)} mapped functions and now has {len(new.transforms)}"
    for one, other in zip(old.transforms, new.transforms, strict=False):
        if one.function != other.function:
            name = getattr(other.function, "__name__", other.function)
            yield (
                f"the function mapped over the batch, {name}, is compared by identity, and this is "
                "another: pass the same function object to every .map"
            )
    if old.seed != new.seed:
        yield f"the seed of the batch's mapped functions changed from {old.seed} to {new.seed}"
