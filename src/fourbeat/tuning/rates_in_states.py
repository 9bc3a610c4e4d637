"""How a trial gives an optimizer another learning rate, whatever optimizer it is."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fourbeat.beats import Beats, TrainState
from fourbeat.beats.optimizer import learning_rate as told_rate
from fourbeat.types import Object, Scalar


@dataclasses.dataclass(frozen=True)
class RateSetter:
    """A way to set the rate of a state's next update.

    Attributes:
      apply: `(state, rate) -> (state, rate that the update then has)`, pure; the second is 0 where a schedule
        gives 0, which no factor changes.
      is_relative: whether rates are multiples of the optimizer's own, which nothing tells.
    """

    apply: Callable[[TrainState, Scalar], tuple[TrainState, jax.Array]]
    is_relative: bool = False


def rate_setter(beats: Beats, state: TrainState, learning_rate: float | None) -> RateSetter:
    """The way that fits these beats.

    An injected `learning_rate` is set. Otherwise `state.lr_scale` multiplies the update, by the quotient of
    the wanted rate and the optimizer's own: that of `four_beats(..., schedule=)`, or `learning_rate`.

    Raises:
      ValueError: the optimizer has a schedule that nothing tells, or `learning_rate` is out of range.
    """
    if learning_rate is not None and not learning_rate > 0:
        raise ValueError(
            f"learning_rate is {learning_rate!r}. Give the rate that the optimizer was made with, above 0."
        )
    nodes = [node for node in _leaves(state.opt_state) if _has_rate(node)]
    if len(nodes) == 1 and "learning_rate" not in getattr(nodes[0], "hyperparams_states", {}):
        return RateSetter(_inject)
    schedule = beats.options.schedule
    if schedule is not None:
        return RateSetter(lambda state, rate: _scale(state, rate, _scheduled(schedule, state)))
    if nodes or any(isinstance(node, optax.ScaleByScheduleState) for node in _leaves(state.opt_state)):
        raise ValueError(
            "cannot set the rate: the optimizer has a schedule, and the beats do not know it. Give "
            "four_beats the schedule that the optimizer was given, schedule=; or test with a plain rate, "
            "such as optax.adamw(1e-3)."
        )
    own = jnp.float32(1.0 if learning_rate is None else learning_rate)
    return RateSetter(lambda state, rate: _scale(state, rate, own), is_relative=learning_rate is None)


def _inject(state: TrainState, rate: Scalar) -> tuple[TrainState, jax.Array]:
    def injected(node: Object) -> Any:
        if not _has_rate(node):
            return node
        rates = {"learning_rate": jnp.asarray(rate, node.hyperparams["learning_rate"].dtype)}
        return node._replace(hyperparams={**node.hyperparams, **rates})

    opt_state = jax.tree.map(injected, state.opt_state, is_leaf=_is_node)
    state = dataclasses.replace(state, opt_state=opt_state, lr_scale=jnp.ones_like(state.lr_scale))
    return state, jnp.asarray(rate, jnp.float32)


def _scale(state: TrainState, rate: Scalar, own: jax.Array) -> tuple[TrainState, jax.Array]:
    scale = jnp.where(own == 0, 0, rate / jnp.where(own == 0, 1, own)).astype(state.lr_scale.dtype)
    return dataclasses.replace(state, lr_scale=scale), scale * own


def _scheduled(schedule: Callable, state: TrainState) -> jax.Array:
    plain = dataclasses.replace(state, lr_scale=jnp.ones_like(state.lr_scale))
    rate = told_rate(schedule, plain, state.opt_state)
    assert rate is not None  # a schedule is given
    return rate


def _leaves(opt_state: Object) -> list[Any]:
    return jax.tree.leaves(opt_state, is_leaf=_is_node)


def _is_node(node: Object) -> bool:
    return hasattr(node, "hyperparams") or isinstance(node, optax.ScaleByScheduleState)


def _has_rate(node: Object) -> bool:
    return "learning_rate" in getattr(node, "hyperparams", {})
