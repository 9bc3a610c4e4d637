"""One forward and one backward pass."""

from functools import partial
from typing import Any

import jax

from fourbeat.beats.loss import Forward, LossFunction, forward, is_weighted
from fourbeat.beats.selecting import whole
from fourbeat.beats.state import TrainState
from fourbeat.precision.idle import warn_of_wide_products
from fourbeat.precision.reductions import sums_in_float32


def differentiated(
    loss_fn: LossFunction,
    state: TrainState,
    rest: dict,
    batch: Any,
    *,
    key: jax.Array | None,
    share: jax.Array | None = None,
) -> tuple[Any, Forward]:
    """The gradients of a batch's mean loss, and what its forward pass gave.

    Args:
      loss_fn: the loss.
      state: its parameters are differentiated.
      rest: the other variables before the pass.
      batch: columns of a batch or microbatch.
      key: for a loss function that takes one.
      share: what the mean loss is multiplied by before it is differentiated; None for 1.

    Returns:
      `(grads, seen)`; the gradients are as large as the loss scale makes them. A batch of no weight at all
      leaves `seen.rest` as `rest` was.
    """

    def objective(params: Any) -> tuple[jax.Array, Forward]:
        seen = forward(loss_fn, state.static, params, rest, batch, key=key, train=True)
        loss = seen.loss if share is None else seen.loss * share
        return loss if state.loss_scale is None else loss * state.loss_scale.scale, seen

    gradient = jax.value_and_grad(objective, has_aux=True)
    if loss_fn.policy is not None:
        unmet = None if state.static.is_module else partial(warn_of_wide_products, loss_fn.policy.compute)
        gradient = sums_in_float32(gradient, look=unmet)
    (_, seen), grads = gradient(state.params)
    if is_weighted(batch):
        seen = seen._replace(rest=whole(seen.weight > 0, seen.rest, rest))
    return grads, seen
