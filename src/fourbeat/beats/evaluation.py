"""Evaluation of one batch: the loss in evaluation mode, the metrics, and what becomes of what was written."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax

from fourbeat.beats.columns import columns_of
from fourbeat.beats.dropped_writes import warn_of_dropped_writes, written_paths
from fourbeat.beats.loss import Forward, LossFunction, forward
from fourbeat.beats.metering import measured
from fourbeat.beats.naming import naming
from fourbeat.beats.state import TrainState
from fourbeat.trees.buffers import settled
from fourbeat.trees.paths import Path


def eval_step(
    loss_fn: LossFunction,
    state: TrainState,
    batch: Any,
    metrics: Any,
    *,
    key: jax.Array | None = None,
    carry: bool = False,
) -> Any:
    """The metrics with one batch counted in.

    Args:
      loss_fn: the loss.
      state: what is scored.
      batch: one batch.
      metrics: so far.
      key: for a loss function that takes one.
      carry: whether to give the state back too, with what the forward pass wrote.

    Returns:
      The metrics; with `carry` `(state, metrics)`.

    Raises:
      ValueError: a key is given and the loss function takes none.
    """
    batch = columns_of(batch)
    if key is not None and not loss_fn.takes_key:
        raise ValueError(
            "evaluation has a key, and loss_fn takes none. Name one of its parameters `key`, or leave key= "
            "out."
        )
    written: list[Path] = []

    def look(params: Any) -> Forward:
        seen = forward(loss_fn, state.static, params, state.rest, batch, key=key, train=False)
        written[:] = written_paths(state, seen.rest)
        return seen

    with naming("evaluation", state, batch), _naming_no_key(loss_fn, key):
        seen = loss_fn.with_wide_sums(look)(state.params)
        metrics = settled(measured(metrics, batch, seen))
        if carry:
            return dataclasses.replace(state, rest=seen.rest), metrics
        if written:
            warn_of_dropped_writes(loss_fn, state, batch, key, written)
        return metrics


@contextlib.contextmanager
def _naming_no_key(loss_fn: LossFunction, key: jax.Array | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if loss_fn.takes_key and key is None:
            error.add_note(
                "In evaluation the key of loss_fn is None: leave out there what is random. Or give it keys, "
                "fb.evaluator(beats, key=0)."
            )
        raise
