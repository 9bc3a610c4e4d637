"""The layout of a saved state: each field is a leaf of its own, even where a state packs several."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fourbeat.beats.state import TrainState, packed
from fourbeat.data.placement import place_beside
from fourbeat.types import Object, Tree


@dataclasses.dataclass(frozen=True, eq=False)
class SavedState:
    """The form of a `TrainState` in checkpoints. Its paths and the order of its leaves must not change."""

    step: Any
    num_updates: Any
    params: Any
    rest: Any
    opt_state: Any
    key: Any
    metrics: Any
    lr_scale: Any
    ema: Any
    loss_scale: Any
    guard: Any
    static: Any
    key_impl: str


_META = ("static", "key_impl")
_DATA = [field.name for field in dataclasses.fields(SavedState) if field.name not in _META]
_SHARED = [name for name in (*_DATA, *_META) if name not in ("step", "num_updates", "key")]
jax.tree_util.register_dataclass(SavedState, data_fields=_DATA, meta_fields=_META)


def laid_out(tree: Tree) -> Any:
    """The tree with a `SavedState` in the place of each state.

    Args:
      tree: the arrays of its states may be `jax.ShapeDtypeStruct`s, or deleted.
    """
    return jax.tree.map(
        lambda node: _laid_out(node) if isinstance(node, TrainState) else node,
        tree,
        is_leaf=lambda node: isinstance(node, TrainState),
    )


def as_states(tree: Tree) -> Any:
    """The tree with a state in the place of each `SavedState`."""
    return jax.tree.map(
        lambda node: _as_state(node) if isinstance(node, SavedState) else node,
        tree,
        is_leaf=lambda node: isinstance(node, SavedState),
    )


def _laid_out(state: TrainState) -> SavedState:
    numbers = state.numbers
    if isinstance(numbers, jax.Array) and numbers.is_deleted():
        sharding = numbers.sharding if numbers.committed else None
        numbers = jax.ShapeDtypeStruct(numbers.shape, numbers.dtype, sharding=sharding)
    parts = dataclasses.replace(state, numbers=numbers)
    shared = {name: getattr(state, name) for name in _SHARED}
    step, num_updates, key = (_placed(part, numbers) for part in (parts.step, parts.num_updates, parts.key))
    return SavedState(step=step, num_updates=num_updates, key=key, **shared)


def _placed(part: Object, numbers: Object) -> Any:
    """A shape with the sharding of the numbers that it is a part of."""
    sharding = getattr(numbers, "sharding", None)
    if not isinstance(part, jax.ShapeDtypeStruct) or sharding is None:
        return part
    if isinstance(sharding, NamedSharding):
        sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[: len(part.shape)]))
    return jax.ShapeDtypeStruct(part.shape, part.dtype, sharding=sharding)


def _as_state(saved: SavedState) -> TrainState:
    numbers: Any = packed(saved.step, saved.num_updates, saved.key)
    if isinstance(saved.step, np.ndarray):
        numbers = np.asarray(numbers)
    elif isinstance(saved.step, jax.Array) and isinstance(saved.step.sharding, NamedSharding):
        numbers = place_beside(numbers, saved.step)
    return TrainState(numbers=numbers, **{name: getattr(saved, name) for name in _SHARED})
