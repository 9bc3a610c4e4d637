"""One forward and one backward pass."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fourbeat.beats.loss import Forward, LossFunction, forward, is_weighted
from fourbeat.beats.selecting import whole
from fourbeat.beats.state import TrainState
from fourbeat.beats.weightless import without_weightless_numbers
from fourbeat.precision.idle import warn_of_wide_products
from fourbeat.trees.paths import map_part


def differentiated(
    loss_fn: LossFunction,
    state: TrainState,
    params: dict,
    rest: dict,
    batch: Any,
    *,
    key: jax.Array | None,
    share: jax.Array | None = None,
) -> tuple[Any, Forward]:
    """The gradients of a batch's mean loss, and what its forward pass gave.

    Args:
      loss_fn: the loss.
      state: for its model and loss scale.
      params: what is differentiated.
      rest: the other variables before the pass.
      batch: columns of a batch or microbatch.
      key: for a loss function that takes one.
      share: what the mean loss is multiplied by before it is differentiated; None for 1.

    Returns:
      `(grads, seen)`; the gradients are as large as the loss scale makes them. A batch of no weight at all
      leaves `seen.rest` and `seen.written` as they were, and as a share of a larger one its gradients are 0.
    """
    batch = without_weightless_numbers(loss_fn, state, params, rest, batch, key)

    def objective(params: Any) -> tuple[jax.Array, Forward]:
        seen = forward(loss_fn, state.static, params, rest, batch, key=key, train=True)
        loss = seen.loss if share is None else seen.loss * share
        return loss if state.loss_scale is None else loss * state.loss_scale.scale, seen

    policy, is_module = loss_fn.policy, state.static.is_module
    unmet = None if policy is None or is_module else partial(warn_of_wide_products, policy.compute)
    gradient = loss_fn.with_wide_sums(jax.value_and_grad(objective, has_aux=True), unmet)
    (_, seen), grads = gradient(params)
    if not is_weighted(batch):
        return grads, seen
    has_weight = seen.weight != 0
    unwritten = map_part(lambda _, param: param, seen.written, params)
    after, before = (seen.rest, seen.written), (rest, unwritten)
    rest, written = whole(has_weight, after, before)
    if share is not None:
        grads = jax.tree.map(lambda grad: jnp.where(has_weight, grad, 0), grads)
    return grads, seen._replace(rest=rest, written=written)
