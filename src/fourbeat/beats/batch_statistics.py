"""A warning for padded rows that enter batch statistics."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from jax.extend import core

from fourbeat.beats.loss import LossFunction, forward
from fourbeat.beats.state import TrainState
from fourbeat.explicit.paths import Path, look_up, render_attribute


class PaddingInStatisticsWarning(UserWarning):
    """Rows of weight 0 take part in the batch statistics of a normalisation layer."""


def warn_of_unmasked_padding(
    loss_fn: LossFunction, state: TrainState, batch: Any, key: jax.Array | None, rest: Any
) -> None:
    """Warns, once a compilation, where a weighted batch meets statistics that do not read its weight.

    Args:
      loss_fn: the loss.
      state: before the step.
      batch: columns of the batch.
      key: the step's key, or None.
      rest: the other variables after the forward pass.
    """
    if not isinstance(batch, Mapping) or "weight" not in batch:
        return
    written = [
        path
        for path, what in state.static.structure
        if isinstance(what, tuple)
        and what[0] is nnx.BatchStat
        and look_up(rest, path) is not look_up(state.rest, path)
    ]
    if not written:
        return

    def statistics(weight: jax.Array) -> list:
        weighted = {**batch, "weight": weight}
        seen = forward(loss_fn, state.static, state.params, state.rest, weighted, key=key, train=True)
        return [look_up(seen.rest, path) for path in written]

    unmasked = _independent(statistics, batch["weight"], written)
    if unmasked:
        warnings.warn(
            f"{', '.join(unmasked[:4])}: rows of weight 0 take part in these batch statistics, and change "
            "the gradients of all other rows. Use remainder='drop' for training, or give the layer "
            "mask=batch['weight'][:, None] > 0.",
            PaddingInStatisticsWarning,
            stacklevel=2,
        )


def _independent(function: Any, weight: jax.Array, paths: list[Path]) -> list[str]:
    """The names of those outputs of `function` that do not depend on `weight`."""
    jaxpr = jax.make_jaxpr(function)(weight).jaxpr
    reached = set(jaxpr.invars)
    for equation in jaxpr.eqns:
        inputs = (atom for atom in equation.invars if isinstance(atom, core.Var))
        if any(atom in reached for atom in inputs):
            reached.update(equation.outvars)
    return [
        render_attribute("model", path)
        for path, out in zip(paths, jaxpr.outvars, strict=True)
        if not isinstance(out, core.Var) or out not in reached
    ]
