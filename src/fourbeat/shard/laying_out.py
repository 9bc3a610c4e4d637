"""Laying out: where each leaf of a state lies on a mesh."""

import math
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fourbeat.data.placement import place_as
from fourbeat.shard.meshes import checked_mesh, described, trimmed, written
from fourbeat.shard.rules import Rules, checked_rules, checked_spec
from fourbeat.shard.whole_arrays import LARGE_BYTES, warn_of_whole
from fourbeat.trees.globs import joined
from fourbeat.trees.paths import Path, plain_path
from fourbeat.types import Object, State

_OF_THE_MODEL = ("params", "rest")
_LIKE_PARAMS = ("opt_state", "ema")


def shardings_of(state: State, mesh: Mesh, rules: Rules) -> Any:
    """The sharding of each leaf of a state.

    Parameters and the model's other variables lie as the rules say. What the optimizer keeps for a parameter
    lies as that parameter, and so does its average. All else is on every device.

    Args:
      state: a `TrainState`, or any pytree of arrays, whose leaves are then all parameters; shapes will do.
      mesh: with `Auto` axes.
      rules: for the parameters.

    Raises:
      ValueError: a rule does not fit; the text names the parameter.
    """
    if hasattr(state, "shardings"):  # it says itself how its parts lie
        return state.shardings(mesh, rules)
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    paths = [plain_path(path) for path, _ in leaves]
    shapes = [tuple(leaf.shape) for _, leaf in leaves]
    has_parts = hasattr(state, "params") and hasattr(state, "rest")
    asked = {
        i: path[1:] if has_parts else path
        for i, path in enumerate(paths)
        if not has_parts or path[0] in _OF_THE_MODEL
    }
    bound = rules.of(state)
    if unused := bound.unused([joined(path) for path in asked.values()]):
        raise ValueError(unused)
    specs = {
        i: checked_spec(
            _place(leaves[i][0], has_parts), shapes[i], bound.spec(joined(path), shapes[i], mesh), mesh
        )
        for i, path in asked.items()
    }
    params = {
        paths[i][1:]: (shapes[i], spec) for i, spec in specs.items() if has_parts and paths[i][0] == "params"
    }
    is_split = any(spec for _, spec in params.values())
    for i, path in enumerate(paths):
        if i not in specs and path[0] not in _LIKE_PARAMS:
            specs[i] = PartitionSpec()
        elif i not in specs:
            found = _like_its_parameter(path, shapes[i], params)
            specs[i] = PartitionSpec() if found is None else found
            if found is None and is_split:
                _warn_of_unlike(_place(leaves[i][0], has_parts), leaves[i][1])
    return structure.unflatten([NamedSharding(mesh, specs[i]) for i in range(len(leaves))])


def place(state: State, mesh: Mesh, rules: Rules | None = None) -> Any:
    """A copy of a state that lies on a mesh, such as one that holds weights from elsewhere.

    `beats.init(make_model, mesh=, shard=)` creates a state there, which no device ever has to hold whole.

    Args:
      state: a `TrainState`, or any pytree of arrays.
      mesh: a `jax.sharding.Mesh`.
      rules: as `beats.init` takes them; default `replicated()`.

    Raises:
      ValueError: a rule does not fit; the text names the parameter.

    >>> import fourbeat as fb, numpy as np
    >>> place({"w": np.ones((2, 2))}, fb.mesh(data=-1))["w"].sharding.is_fully_replicated
    True
    """
    mesh = checked_mesh(mesh)
    return place_as(state, shardings_of(state, mesh, checked_rules(rules)))


class MeshSharding(NamedTuple):
    """How an array lies on a mesh of several devices."""

    mesh: Mesh
    spec: PartitionSpec


def mesh_sharding(leaf: Object) -> MeshSharding | None:
    """How an array lies on a mesh; None for one that lies on one device."""
    sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh) and sharding.mesh.size > 1:
        return MeshSharding(sharding.mesh, sharding.spec)
    return None


def where(leaf: jax.Array) -> str:
    """Where an array lies, as errors write it.

    >>> import jax.numpy as jnp
    >>> where(jnp.ones(2))
    'on ...:0'
    """
    found = mesh_sharding(leaf)
    if found is not None:
        return f"on the mesh of {described(found.mesh)} as {written(found.spec)}"
    return f"on {', '.join(sorted(map(str, leaf.sharding.device_set)))}"


def _like_its_parameter(path: Path, shape: tuple[int, ...], params: dict) -> PartitionSpec | None:
    """How an array of an optimizer's state lies; None for one that belongs to no parameter.

    The state repeats the tree of the parameters: so its path ends with that of one, or goes on after it
    where an optimizer keeps several arrays for one parameter. It may hold many of a parameter's shape,
    stacked. What has another shape, as the factors of a matrix, lies whole.
    """
    for end in range(len(path), 0, -1):
        for begin in range(end):
            if (found := params.get(path[begin:end])) is None:
                continue
            of_parameter, spec = found
            num_leading = len(shape) - len(of_parameter)
            if num_leading < 0 or shape[num_leading:] != of_parameter:
                return PartitionSpec()
            return trimmed((*[None] * num_leading, *spec))
    return None


def _warn_of_unlike(place: str, leaf: Object) -> None:
    if math.prod(leaf.shape) * leaf.dtype.itemsize < LARGE_BYTES:
        return
    warn_of_whole(
        f"{place} of shape {tuple(leaf.shape)} lies whole on every device, beside parameters that are split: "
        "nothing tells to which of them it belongs. What an optimizer keeps in the tree of the parameters is "
        "split as they are; optax.flatten makes one array of all.",
        stacklevel=4,
    )


def _place(path: tuple, has_parts: bool) -> str:
    return ("state" if has_parts else "tree") + jax.tree_util.keystr(path)
