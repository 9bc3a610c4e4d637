"""Beat four: the update, applied to the old state as a whole."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fourbeat.beats.gradient import GradientOut
from fourbeat.beats.state import TrainState
from fourbeat.explicit.buffers import settled


def update(
    tx: optax.GradientTransformationExtraArgs,
    state: TrainState,
    grads: Any,
    out: GradientOut,
    **extra_args: Any,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """The state after this step, and the step's logs: device scalars, nothing copied to the host."""
    extra_args = {"value": out.loss, "grad": grads, **extra_args}
    updates, opt_state = tx.update(grads, state.opt_state, state.params, **extra_args)
    params = optax.apply_updates(state.params, _scaled(updates, state.lr_scale))
    new_state = dataclasses.replace(
        state,
        step=state.step + 1,
        params=params,
        rest=out.rest,
        opt_state=opt_state,
        metrics=out.metrics,
    )
    logs = {"loss": out.loss, "grad_norm": optax.global_norm(grads), "weight": out.weight}
    return settled((new_state, logs))


def _scaled(updates: Any, lr_scale: jax.Array) -> Any:
    """Updates times `lr_scale`; a scale of 1 leaves every bit as it is.

    A plain product, although exact at 1, changes what XLA fuses, and with it the last bit of the
    update beside clipping and schedules: a select on equality does not.
    """
    return jax.tree.map(
        lambda leaf: jnp.where(lr_scale == 1, leaf, leaf * lr_scale.astype(leaf.dtype)), updates
    )
