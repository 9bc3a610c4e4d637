"""Numbers by layer: norms of parameters, gradients and updates, and how their values are spread."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fourbeat.beats import TrainState
from fourbeat.beats.bad_numbers import norm
from fourbeat.shard.rules import joined
from fourbeat.trees.donation import explaining_used_up
from fourbeat.trees.paths import leaves_with_paths, plain_path
from fourbeat.types import Params


class Histogram(NamedTuple):
    """How values are spread.

    Attributes:
      counts: int32 (bins,), of the finite values.
      edges: float32 (bins + 1,), from the least of them to the largest.
    """

    counts: jax.Array
    edges: jax.Array


class Layer(NamedTuple):
    """The numbers of one layer.

    Attributes:
      param_norm: l2 norm of its parameters, float32 scalar.
      grad_norm: that of their gradients.
      update_norm: that of what they move by; None without a state after the update.
      update_ratio: `update_norm / param_norm`; inf where the parameters are 0.
      params: how the parameters are spread.
      grads: how the gradients are spread.
    """

    param_norm: jax.Array
    grad_norm: jax.Array
    update_norm: jax.Array | None
    update_ratio: jax.Array | None
    params: Histogram
    grads: Histogram


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layers:
    """Numbers by layer, a pytree. Printed, it is a table; that reads them from the device.

    Attributes:
      of: each layer by the path of its parameters, such as `body/attention`.
    """

    of: dict[str, Layer]

    def __getitem__(self, name: str) -> Layer:
        return self.of[name]

    def scalars(self) -> dict[str, float]:
        """The norms and ratios by name, such as `grad_norm/body`, as a logger takes them."""
        read = jax.device_get(self.of)
        return {
            f"{what}/{name}": float(value)
            for name, layer in read.items()
            for what, value in layer._asdict().items()
            if value is not None and not isinstance(value, tuple)
        }

    def __str__(self) -> str:
        names = ("param_norm", "grad_norm", "update_norm", "update_ratio")
        rows: list[tuple[str, ...]] = [("layer", "parameters", "gradients", "update", "ratio")]
        for name, layer in jax.device_get(self.of).items():
            values = (getattr(layer, each) for each in names)
            rows.append((name, *("-" if value is None else f"{float(value):.3g}" for value in values)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
        )


@explaining_used_up
def layers(state: TrainState, grads: Params, after: TrainState | None = None, *, bins: int = 20) -> Layers:
    """Norms, update-to-parameter ratios and histograms of each layer; pure, so it may be compiled.

    A layer is what holds an array: `body/kernel` and `body/bias` belong to `body`. A ratio of about 1e-3 is
    usual; one near 1 writes the layer anew at each step, and one of 1e-6 leaves it where it is.

    Args:
      state: before the update.
      grads: of its parameters, as `beats.gradient` gives them.
      after: the state after the update; None to leave updates out.
      bins: of each histogram.

    Raises:
      ValueError: the gradients are not like the parameters.

    >>> import fourbeat as fb, optax
    >>> beats = fb.four_beats(lambda model, batch: model["w"] @ batch["x"].T, optax.sgd(0.5))
    >>> state = beats.init({"w": jnp.array([3.0, 4.0])})
    >>> grads, out = beats.gradient(state, {"x": jnp.array([[0.0, 2.0]])})
    >>> after, _ = beats.update(state, grads, out)
    >>> print(layers(state, grads, after))
    layer  parameters  gradients  update  ratio
    w               5          2       1    0.2
    """
    trees = [state.params, grads] + ([] if after is None else [after.params])
    for name, tree in zip(("grads", "after.params"), trees[1:], strict=False):
        _check_like(state.params, tree, name)
    groups: dict[str, list[list[jax.Array]]] = {}
    named = [jax.tree_util.tree_leaves_with_path(tree) for tree in trees]
    for (path, param), *others in zip(*named, strict=True):
        place = plain_path(path)
        arrays = groups.setdefault(joined(place[:-1] or place), [[], [], []])
        for array, each in zip(arrays, [param, *(leaf for _, leaf in others)], strict=False):
            array.append(each)
    return Layers({name: _layer(one, two, three, bins) for name, (one, two, three) in groups.items()})


def _check_like(params: Params, tree: Params, name: str) -> None:
    ours, theirs = (
        {place: jnp.shape(leaf) for place, leaf in leaves_with_paths(each)} for each in (params, tree)
    )
    for place in {**ours, **theirs}:
        if ours.get(place) != theirs.get(place):
            shapes = [each.get(place, "not there") for each in (theirs, ours)]
            raise ValueError(
                f"{name}{place} is {shapes[0]} and state.params{place} is {shapes[1]}. Give the gradients of "
                "this state, and the state that its update gave."
            )


def _layer(params: list[Any], grads: list[Any], after: list[Any], bins: int) -> Layer:
    moved = norm([new - old for new, old in zip(after, params, strict=True)]) if after else None
    return Layer(
        param_norm=norm(params),
        grad_norm=norm(grads),
        update_norm=moved,
        update_ratio=None if moved is None else moved / norm(params),
        params=_spread(params, bins),
        grads=_spread(grads, bins),
    )


def _spread(arrays: list[Any], bins: int) -> Histogram:
    values = jnp.concatenate([_real(each).ravel() for each in arrays])
    good = jnp.isfinite(values)
    low, high = (jnp.min(values, initial=jnp.inf, where=good), jnp.max(values, initial=-jnp.inf, where=good))
    low, high = (jnp.where(good.any(), each, np.float32(0)) for each in (low, high))
    counts, edges = jnp.histogram(jnp.where(good, values, low), bins, range=(low, high), weights=good)
    return Histogram(counts=counts.astype(jnp.int32), edges=edges)


def _real(array: jax.Array) -> jax.Array:
    return (jnp.abs(array) if jnp.iscomplexobj(array) else array).astype(jnp.float32)
