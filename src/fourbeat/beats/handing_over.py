"""From one set of beats to others in the middle of training: another `wrt`, the same optimizer state."""

import dataclasses
import warnings
from collections.abc import Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh
from jax.tree_util import GetAttrKey

from fourbeat.beats.assembling import Beats
from fourbeat.beats.state import TrainState
from fourbeat.data.placement import place_over_mesh_like
from fourbeat.shard.rules import Rules
from fourbeat.trees.buffers import copied
from fourbeat.trees.globs import joined
from fourbeat.trees.paths import Path, plain_path
from fourbeat.types import Params, Tree

_KeyPath = tuple[Any, ...]


class SharedCountWarning(UserWarning):
    """Parameters that begin to be trained share an optimizer's count with those that were trained before."""


def hand_over(
    state: TrainState, beats: Beats, *, mesh: Mesh | None = None, shard: Rules | None = None
) -> TrainState:
    """The state with which other beats go on: for gradual unfreezing, or to freeze again.

    What the `wrt` of `beats` selects is in `params`, found by its path in the model. What was trained before
    keeps its optimizer's numbers and its average, bit by bit. What was not begins with those of
    `beats.init`. The step, the key, the metrics so far, `lr_scale` and what a guard has seen stay.

    A group of `optax.partition` that held no parameter before begins anew, its counts too. So give
    parameters that are unfrozen later a group of their own from the start.

    Args:
      state: of the beats before; it can still be used.
      beats: those to go on with. Their model is built the same way.
      mesh: as `beats.init` takes it; needed where the state lies on one.
      shard: as `beats.init` takes it.

    Raises:
      ValueError: the new optimizer has no place for what the old one kept of a parameter that is trained
        still.

    >>> import fourbeat as fb, optax
    >>> def loss_fn(model, batch):
    ...     return ((batch["x"] * model["body"] + model["head"]) - batch["y"]) ** 2
    >>> rates = {"head": optax.adam(0.1), "body": optax.adam(0.01)}
    >>> tx = optax.partition(rates, fb.models.labels({"head": "head", "body": "body"}))
    >>> head = fb.four_beats(loss_fn, tx, wrt=fb.models.paths("head"))
    >>> both = fb.four_beats(loss_fn, tx)
    >>> batch = {"x": jnp.ones(4), "y": jnp.zeros(4)}
    >>> state, _ = head.train_step(head.init({"head": jnp.ones(()), "body": jnp.ones(())}), batch)
    >>> state = hand_over(state, both)
    >>> list(state.params), int(state.step)
    (['body', 'head'], 1)
    """
    key = jax.random.wrap_key_data(state.key, impl=state.key_impl)
    new = beats.init(state.model, key=key, mesh=mesh, shard=shard)
    places = _Places(state.params, new.params)
    kept: dict[str, Any] = {
        "numbers": place_over_mesh_like(state.numbers, new.numbers),
        "lr_scale": place_over_mesh_like(state.lr_scale, new.lr_scale),
        "opt_state": _carried(state.opt_state, new.opt_state, places),
        **{
            name: _kept(getattr(state, name), getattr(new, name))
            for name in ("metrics", "loss_scale", "guard")
        },
    }
    if state.ema is not None and new.ema is not None:
        kept["ema"] = _by_path(state.ema, new.ema)
    return copied(dataclasses.replace(new, **kept))


def _kept(old: Tree, new: Tree) -> Tree:
    """The old tree where the new one is of its kind."""
    return place_over_mesh_like(old, new) if jax.tree.structure(old) == jax.tree.structure(new) else new


def _by_path(old: Tree, new: Tree) -> Any:
    found = _leaves(old)
    return jax.tree.map_with_path(lambda path, leaf: _taken(found, path, leaf), new)


def _leaves(tree: Tree) -> dict[str, tuple[_KeyPath, Any]]:
    with_paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): (path, leaf) for path, leaf in with_paths}


def _taken(found: Mapping[str, tuple[_KeyPath, Any]], path: _KeyPath, leaf: jax.Array) -> jax.Array:
    old = found.get(jax.tree_util.keystr(path), (path, None))[1]
    fits = old is not None and (jnp.shape(old), jnp.result_type(old)) == (leaf.shape, leaf.dtype)
    return place_over_mesh_like(old, leaf) if fits else leaf


class _Places:
    """Where the trained parameters are, before and now."""

    def __init__(self, before: Params, now: Params):
        self.before, self.now = set(_paths_of(before)), set(_paths_of(now))

    def of(self, path: _KeyPath, among: set[Path]) -> Path | None:
        """The parameter that an optimizer's leaf belongs to: its path ends with that of the parameter."""
        plain = plain_path(path)
        return next((plain[i:] for i in range(len(plain)) if plain[i:] in among), None)


def _paths_of(params: Params) -> list[tuple[Hashable, ...]]:
    return [plain_path(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]


def _carried(before: Tree, now: Tree, places: _Places) -> Any:
    """An optimizer's state with the old numbers of what was trained before."""
    old, new = _leaves(before), _leaves(now)
    of_parameters = [path for path, _ in old.values() if places.of(path, places.before)]
    used = {group for path in of_parameters for group in _groups(path)}
    for path in of_parameters:
        if places.of(path, places.now) and jax.tree_util.keystr(path) not in new:
            raise ValueError(
                f"the optimizer keeps opt_state{jax.tree_util.keystr(path)}, and the one to go on with has "
                "no such place: it is built in another way. Use one optimizer for both beats: "
                "optax.partition with a group for each part that is unfrozen, from the start."
            )

    def chosen(path: _KeyPath, leaf: jax.Array) -> jax.Array:
        return leaf if set(_groups(path)) - used else _taken(old, path, leaf)

    carried = jax.tree.map_with_path(chosen, now)
    _warn_of_shared_counts(old, carried, places)
    return carried


def _groups(path: _KeyPath) -> list[str]:
    """The groups of `optax.partition` that a leaf of its state lies in, the outermost first."""
    inner = GetAttrKey("inner_states")
    ends = [i + 2 for i, key in enumerate(path) if key == inner and len(path) > i + 1]
    return [jax.tree_util.keystr(path[:end]) for end in ends]


def _warn_of_shared_counts(old: Mapping[str, tuple[_KeyPath, Any]], now: Tree, places: _Places) -> None:
    leaves = _leaves(now)
    for place, (path, _) in leaves.items():
        param = None if place in old else places.of(path, places.now)
        if param is None:
            continue
        node = path[: len(path) - len(param) - 1]
        _, count = leaves.get(jax.tree_util.keystr((*node, GetAttrKey("count"))), (node, 0))
        if np.ndim(count) == 0 and not isinstance(count, Tracer) and int(count) > 0:
            warnings.warn(
                f"{joined(param)} begins to be trained, and opt_state{jax.tree_util.keystr(node)} counts "
                f"{int(count)} steps for all of its parameters. Its moments begin at 0 beside that count, so "
                "its first updates are too large: about three times with Adam's defaults. Give what is "
                "unfrozen later a group of its own from the start: optax.partition({...}, "
                "fb.models.labels({...})).",
                SharedCountWarning,
                stacklevel=4,
            )
            return
