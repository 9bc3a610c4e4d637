"""Sanity: looks for faults that make training useless without an error, before training starts."""

import warnings

import jax
import jax.numpy as jnp

from fourbeat.beats import Beats, GradientOut, TrainState
from fourbeat.data.batch import columns_of
from fourbeat.metrics import CrossedExamplesWarning
from fourbeat.sanity.batch_contents import columns_read, inputs_scaled, labels_in_range
from fourbeat.sanity.gradients import gradients_finite, gradients_reach, live_units
from fourbeat.sanity.losses import examples_apart, falling, initial_loss, overfitted
from fourbeat.sanity.report import Report
from fourbeat.trees.donation import explaining_used_up
from fourbeat.types import Batch, Params


@explaining_used_up
def check(
    beats: Beats, state: TrainState, batch: Batch, *, overfit_steps: int = 50, show: bool = False
) -> Report:
    """Looks for faults that make training useless without an error, on one batch, before training.

    The state does not change, and neither does its random state. The check looks at the
    loss against that of a uniform guess, whether the loss of one example depends on another (in evaluation
    mode, where batch statistics are fixed; it warns of contrastive losses too), labels out of range, inputs
    that are not finite or not scaled, columns that nothing reads, gradients that are not finite (and whether
    numbers of weight 0 make them so), parameters and units without gradient, and whether the loss of this one
    batch falls when it is trained on alone.

    Args:
      beats: from `four_beats`. Checks of labels read `logits` and `labels` of the loss function's aux, or the
        batch's column `label` or `labels`; else the check looks at every integer column
        that indexes something.
      state: from its `init`.
      batch: one training batch.
      overfit_steps: training steps on this batch; 0 for none.
      show: whether to print the report.

    Returns:
      The report. `print` shows it as a table, `.ok` is True if nothing was found, and `.raise_if_bad()`
      raises a `SanityError` if something was found.

    >>> import optax, fourbeat as fb
    >>> def loss_fn(model, batch):
    ...     return (batch["x"] * model["w"] - batch["y"]) ** 2
    >>> beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    >>> batch = {"x": jnp.ones(4), "y": jnp.ones(4), "z": jnp.ones(4)}
    >>> report = check(beats, beats.init({"w": jnp.zeros(())}), batch)
    >>> report.ok, report["columns read"].seen
    (False, "batch['z'] changes neither loss, metrics nor other variables")
    """
    columns = columns_of(batch)
    columns = jax.tree.map(jnp.asarray, columns)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CrossedExamplesWarning)
        grads, out = jax.jit(beats.gradient)(state, columns)
    crossed = [str(each.message) for each in caught if issubclass(each.category, CrossedExamplesWarning)]
    for each in caught:
        if not issubclass(each.category, CrossedExamplesWarning):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrossedExamplesWarning)
        report = _report(beats, state, columns, grads, out, crossed, overfit_steps)
    if show:
        print(report)
    return report


def _report(
    beats: Beats,
    state: TrainState,
    columns: Batch,
    grads: Params,
    out: GradientOut,
    crossed: list[str],
    overfit_steps: int,
) -> Report:
    losses = overfitted(beats.train_step, state, columns, overfit_steps)
    return Report(
        (
            initial_loss(float(out.loss), columns, out.aux),
            examples_apart(beats, state, columns, crossed),
            labels_in_range(beats, state, columns, out.aux),
            inputs_scaled(columns),
            columns_read(beats.gradient, state, columns),
            gradients_finite(beats.gradient, state, columns, grads),
            gradients_reach(grads),
            live_units(grads),
            falling(losses),
        )
    )
