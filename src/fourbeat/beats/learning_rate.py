"""The learning rate of a step, where it can be known."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def learning_rate(schedule: Callable | None, state: Any, opt_state: Any) -> jax.Array | None:
    """The rate of the update that made `opt_state`, times `lr_scale`: float32 scalar, or None if unknown.

    With a schedule it is the schedule's at the count of applied updates: the count that optax itself keeps
    where there is one alone, else `state.num_updates`. Without, it is the one hyperparameter named
    `learning_rate` of `optax.inject_hyperparams`.

    Args:
      schedule: `schedule(count)`, or None.
      state: before the update.
      opt_state: after the update.
    """
    if schedule is not None:
        rate = schedule(_count(state))
    else:
        rates = [
            node.hyperparams["learning_rate"]
            for node in _nodes(opt_state, "hyperparams")
            if "learning_rate" in node.hyperparams
        ]
        if len(rates) != 1:
            return None
        (rate,) = rates
    return jnp.asarray(rate, jnp.float32) * state.lr_scale


def _count(state: Any) -> jax.Array:
    counts = [
        node.count
        for node in jax.tree.leaves(state.opt_state, is_leaf=_is_schedule_state)
        if _is_schedule_state(node)
    ]
    return counts[0] if len(counts) == 1 else state.num_updates


def _is_schedule_state(node: Any) -> bool:
    return isinstance(node, optax.ScaleByScheduleState)


def _nodes(tree: Any, attribute: str) -> list[Any]:
    has = lambda node: hasattr(node, attribute)
    return [node for node in jax.tree.leaves(tree, is_leaf=has) if has(node)]
