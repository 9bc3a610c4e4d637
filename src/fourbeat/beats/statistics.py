"""Warnings about running statistics: padding enters them, or the loss function cannot write them."""

import warnings

import jax
from flax import nnx

from fourbeat.beats.loss import LossFunction, forward, is_weighted
from fourbeat.beats.state import TrainState
from fourbeat.models.equinox_states import states_out_of_reach
from fourbeat.trees.jaxprs import reached
from fourbeat.trees.paths import Path, look_up, render_attribute
from fourbeat.types import Batch


class PaddingInStatisticsWarning(UserWarning):
    """Examples of weight 0 take part in the batch statistics of a normalisation layer."""


def warn_of_unmasked_padding(
    loss_fn: LossFunction, state: TrainState, batch: Batch, key: jax.Array | None
) -> None:
    """Warns, once a compilation, where a weighted batch meets statistics that do not read its weight.

    The forward pass is traced for it, and adds nothing to the program.

    Args:
      loss_fn: the loss.
      state: before the step.
      batch: columns of the batch, or of its first microbatch.
      key: the step's key, or None.
    """
    paths = [
        path for path, what in state.static.structure if isinstance(what, tuple) and what[0] is nnx.BatchStat
    ]
    if not paths or not is_weighted(batch):
        return
    written: list[Path] = []

    def statistics(weight: jax.Array) -> list:
        weighted = {**batch, "weight": weight}
        seen = forward(loss_fn, state.static, state.params, state.rest, weighted, key=key, train=True)
        written[:] = [p for p in paths if look_up(seen.rest, p) is not look_up(state.rest, p)]
        return [look_up(seen.rest, path) for path in written]

    is_masked = reached(jax.make_jaxpr(statistics)(batch["weight"]).jaxpr)
    unmasked = [
        render_attribute("model", path) for path, seen in zip(written, is_masked, strict=True) if not seen
    ]
    if unmasked:
        warnings.warn(
            f"{', '.join(unmasked[:4])}: examples of weight 0 take part in these batch statistics, and "
            "change the gradients of all other examples. Use remainder='drop' for training, or give the "
            "layer mask=batch['weight'][:, None] > 0.",
            PaddingInStatisticsWarning,
            stacklevel=2,
        )


class LostStateWarning(UserWarning):
    """A new `equinox.nn.State` is lost: the model holds the old one where it cannot be replaced."""


def warn_of_lost_states(state: TrainState) -> None:
    """Warns, once a compilation, of each `equinox.nn.State` that loss_fn cannot replace."""
    if not state.static.is_module:
        for place in states_out_of_reach(state.static.merge(state.params, state.rest)):
            warnings.warn(
                f"{place} is an equinox.nn.State that loss_fn cannot replace: what the forward pass makes of "
                "it, such as running statistics, is lost. Make the model a dict, {'net': net, 'state': "
                "state}, and write the new one in loss_fn: model['state'] = new_state.",
                LostStateWarning,
                stacklevel=4,
            )
