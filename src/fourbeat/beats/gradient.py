"""Beat three: the gradient of the loss, with all that the forward pass leaves behind."""

from typing import Any, NamedTuple

import jax

from fourbeat.beats.batch_statistics import warn_of_unmasked_padding
from fourbeat.beats.columns import columns_of
from fourbeat.beats.loss import LossFunction, forward
from fourbeat.beats.metering import measured
from fourbeat.beats.state import TrainState


class GradientOut(NamedTuple):
    """What the gradient beat gives beside the gradients; nothing of it is applied yet.

    Attributes:
      loss: float32 scalar, the weighted mean.
      weight: float32 scalar, the summed weight (the number of items where no weight was given).
      rest: the model's other variables after the forward pass.
      metrics: the metrics with this batch counted in, or None.
    """

    loss: jax.Array
    weight: jax.Array
    rest: Any
    metrics: Any


def gradient(loss_fn: LossFunction, state: TrainState, batch: Any) -> tuple[Any, GradientOut]:
    """Gradients of the mean loss with respect to `state.params`, a tree like them."""
    batch = columns_of(batch)
    key = state.step_key() if loss_fn.takes_key else None

    def objective(params: Any) -> tuple[jax.Array, Any]:
        seen = forward(loss_fn, state.static, params, state.rest, batch, key=key, train=True)
        return seen.loss, seen

    (_, seen), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
    warn_of_unmasked_padding(loss_fn, state, batch, key, seen.rest)
    metrics = measured(state.metrics, batch, seen)
    return grads, GradientOut(seen.loss, seen.weight, seen.rest, metrics)
