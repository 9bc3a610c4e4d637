"""Exact evaluation: every example once, in one compiled program."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding

from fourbeat.beats.four_beats import Beats
from fourbeat.beats.state import TrainState, host_values
from fourbeat.metrics import Collection, Mean

# what an evaluation does not read: leaving it out keeps each call small
_UNUSED: dict[str, Any] = dict.fromkeys(("opt_state", "metrics", "ema", "loss_scale", "guard"))


def evaluator(beats: Beats, metrics: Any = None) -> Callable[[TrainState, Iterable[Any]], dict]:
    """A function that scores a state on held-out batches.

    Args:
      beats: from `four_beats`; its loss function runs in evaluation mode, without a key.
      metrics: a metric or `Collection`; by default that of the state, or the mean loss.

    Returns:
      `evaluate(state, batches) -> dict` of Python floats (NumPy arrays where a metric has many values).
      It compiles once; the state and its own metrics stay as they are. Rows of weight 0, such as the
      padding of a short last batch, count nothing.

    Raises:
      ValueError: when called, where `batches` leaves examples out, or is empty.

    >>> import jax.numpy as jnp, optax, fourbeat as fb
    >>> beats = fb.four_beats(lambda model, batch: batch["x"] * model["w"], optax.sgd(0.1))
    >>> evaluate = evaluator(beats)
    >>> batches = fb.data.Arrays(x=jnp.arange(5.0)).batches(2)
    >>> evaluate(beats.init({"w": jnp.ones(())}), batches)
    {'loss': 2.0}
    """
    step = jax.jit(beats.eval_step, donate_argnums=2)

    def evaluate(state: TrainState, batches: Iterable[Any]) -> dict:
        dropped = getattr(batches, "dropped", 0)
        if dropped:
            raise ValueError(
                f"evaluation would miss {dropped} examples: these batches drop what does not fill the last "
                "one. Use batches(..., remainder='pad'); padding counts nothing."
            )
        chosen = state.metrics if metrics is None else metrics
        totals = (Collection(loss=Mean("loss")) if chosen is None else chosen).reset()
        if not isinstance(state.step.sharding, SingleDeviceSharding):
            # the first call's totals would lie elsewhere than those of the others: a second program
            totals = jax.device_put(totals, state.step.sharding)
        bare = dataclasses.replace(state, **_UNUSED)
        count = 0
        for batch in batches:
            totals = step(bare, batch, totals)
            count += 1
        if count == 0:
            raise ValueError("there is nothing to evaluate: batches gave no batch at all.")
        return host_values(totals.compute())

    return evaluate
