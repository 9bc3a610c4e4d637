"""Beat three: the gradient of the loss, and everything that the forward pass leaves behind."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fourbeat.beats.accumulation import accumulated
from fourbeat.beats.bad_numbers import examples_with_bad_columns, examples_with_bad_losses
from fourbeat.beats.differentiation import differentiated
from fourbeat.beats.error_notes import adding_notes
from fourbeat.beats.logged_aux import arrays_of, logged_aux
from fourbeat.beats.loss import LossFunction, is_weighted, updated_metrics
from fourbeat.beats.options import Options
from fourbeat.beats.state import TrainState
from fourbeat.beats.statistics import warn_of_lost_states, warn_of_unmasked_padding
from fourbeat.data.batch import columns_of
from fourbeat.metrics import Metric
from fourbeat.types import Aux, Batch, Logs, Params, Rest


class GradientOut(NamedTuple):
    """What the gradient beat gives beside the gradients; nothing of it is applied yet.

    Attributes:
      loss: float32 scalar, the weighted mean.
      weight: float32 scalar, the summed weight (the number of items where no weight was given).
      rest: the model's other variables after the forward pass.
      metrics: the metrics with this batch counted in, or None.
      has_weight: bool scalar, False where the summed weight is 0, so that nothing is to be applied; None
        where the batch has no weight column.
      written: parameters that the forward pass wrote, a nested dict of them alone: the update is added to
        these values, as `nnx.Optimizer` does it.
      bad_examples: bool (batch,), examples with a non-finite column or loss; None without a guard.
      aux: the arrays that the loss function returned beside the loss, for a line between the beats; None in
        a `train_step`, which keeps what it logs. Over microbatches an array of one entry an example is that
        of the whole batch, and any other has a leading axis of microbatches.
      logged: what the logs of the step take from aux, by name.
    """

    loss: jax.Array
    weight: jax.Array
    rest: Rest
    metrics: Metric | None
    written: Params = {}  # noqa: RUF012, replaced and never changed
    has_weight: jax.Array | None = None
    bad_examples: jax.Array | None = None
    aux: Aux = None
    logged: Logs = {}  # noqa: RUF012, as above


def gradient(
    loss_fn: LossFunction,
    options: Options,
    keeps_aux: bool,
    state: TrainState,
    batch: Batch,
    /,
    **inputs: Any,
) -> tuple[Params, GradientOut]:
    """Gradients of the mean loss with respect to `state.params`, a tree like them."""
    batch = columns_of(batch)
    warn_of_lost_states(state)
    with adding_notes("beat three, the gradient", state, batch):
        given = loss_fn.given(inputs, "train_step(state, batch")
        return _gradient(given, options, keeps_aux, state, batch)


def _gradient(
    loss_fn: LossFunction, options: Options, keeps_aux: bool, state: TrainState, batch: Batch
) -> tuple[Params, GradientOut]:
    key = state.step_key() if loss_fn.takes_key else None
    if options.accumulate == 1:
        grads, seen = differentiated(loss_fn, state, state.params, state.rest, batch, key=key)
        warn_of_unmasked_padding(loss_fn, state, batch, key)
        loss, weight, rest, written = seen.loss, seen.weight, seen.rest, seen.written
        metrics = updated_metrics(state.metrics, batch, seen)
        bad_losses = None if options.guard is None else examples_with_bad_losses(seen)
        logged = logged_aux(loss_fn, options, state, batch, seen, key)
        aux = arrays_of(seen.aux) if keeps_aux else None
    else:
        grads, (loss, weight, rest, metrics, written, logged), (bad_losses, aux) = accumulated(
            loss_fn, options, keeps_aux, state, batch, key=key
        )
    if state.loss_scale is not None:
        scale = state.loss_scale.scale
        grads = jax.tree.map(lambda g: g / scale.astype(g.dtype), grads)
    has_weight = None
    if is_weighted(batch):
        has_weight = weight != 0
        loss = jnp.where(weight < 0, jnp.nan, loss)  # there is no mean: the step is bad
    bad_examples = None if bad_losses is None else examples_with_bad_columns(batch, bad_losses)
    return grads, GradientOut(loss, weight, rest, metrics, written, has_weight, bad_examples, aux, logged)
