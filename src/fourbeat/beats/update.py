"""Beat four: the update, applied to the old state as a whole."""

import dataclasses
from typing import Any

import jax
import optax

from fourbeat.beats import averaging
from fourbeat.beats.gradient import GradientOut
from fourbeat.beats.judging import check_parts, judged
from fourbeat.beats.learning_rate import learning_rate
from fourbeat.beats.letting_through import both, let_through
from fourbeat.beats.naming import naming
from fourbeat.beats.norms import LARGE, norm
from fourbeat.beats.options import Options
from fourbeat.beats.scaling import scaled_updates
from fourbeat.beats.selecting import either, whole
from fourbeat.beats.state import TrainState
from fourbeat.trees.buffers import settled
from fourbeat.trees.paths import overlaid


def update(
    tx: optax.GradientTransformationExtraArgs,
    options: Options,
    state: TrainState,
    grads: Any,
    out: GradientOut,
    **extra_args: Any,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """The state after this step, and the step's logs: device scalars, nothing copied to the host."""
    check_parts(options, state)
    with naming("beat four, the update", state, grads=grads):
        return _update(tx, options, state, grads, out, extra_args)


def _update(
    tx: optax.GradientTransformationExtraArgs,
    options: Options,
    state: TrainState,
    grads: Any,
    out: GradientOut,
    extra_args: dict[str, Any],
) -> tuple[TrainState, dict[str, jax.Array]]:
    extra_args = {"value": out.loss, "grad": grads, **extra_args}
    base = overlaid(state.params, out.written)
    updates, opt_state = scaled_updates(
        tx.update, state.lr_scale, grads, state.opt_state, base, extra_args=extra_args
    )
    params = jax.tree.map(lambda param, update: (param + update).astype(param.dtype), base, updates)
    logs = {"loss": out.loss, "grad_norm": norm(_apart(grads)), "weight": out.weight}
    rate = learning_rate(options.schedule, state, opt_state)
    if rate is not None:
        logs["learning_rate"] = rate
    is_through = let_through(state.opt_state, opt_state)
    changes = {"params": params, "rest": out.rest, "opt_state": opt_state, "metrics": out.metrics}
    if options.ema is not None:
        ema = averaging.averaged(options.ema, state.ema, params, state.num_updates)
        changes["ema"] = ema if is_through is None else whole(is_through, ema, state.ema)
    verdict = judged(options, state, grads, out, params, logs["grad_norm"])
    if verdict.applied is not None:
        before = {name: getattr(state, name) for name in changes}
        changes = either(verdict.applied, settled(changes), settled(before))
    is_applied = both(verdict.applied, is_through)
    num_updates = state.num_updates + (1 if is_applied is None else is_applied)
    changes |= {"step": state.step + 1, "num_updates": num_updates}
    changes |= {"loss_scale": verdict.loss_scale, "guard": verdict.guard}
    return settled((dataclasses.replace(state, **changes), logs | verdict.logs))


def _apart(grads: Any) -> Any:
    """The same gradients; XLA does not share the squares of large ones with those that Adam takes.

    It would write them out whole for their two readers: on CPU 0.30 ms for 800,000 values, where a sum of
    squares of its own takes 0.04. A small gradient is part of a larger fusion, which a barrier would cut;
    that costs a bit.
    """
    return jax.tree.map(
        lambda grad: jax.lax.optimization_barrier(grad) if grad.size >= LARGE else grad, grads
    )
