"""Beat four: the update, applied to the old state as a whole or not at all."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fourbeat.beats.bad_numbers import LARGE, norm, select, select_whole
from fourbeat.beats.ema import updated_ema
from fourbeat.beats.error_notes import adding_notes
from fourbeat.beats.gradient import GradientOut
from fourbeat.beats.lr_scale import scaled_updates
from fourbeat.beats.optimizer import both, learning_rate, was_applied
from fourbeat.beats.options import Options
from fourbeat.beats.state import TrainState, advanced
from fourbeat.guard.guard_state import GuardState, num_bad_values
from fourbeat.precision import LossScale
from fourbeat.trees.buffers import settled
from fourbeat.trees.paths import overlaid
from fourbeat.types import Logs, OptState, Params


def update(
    tx: optax.GradientTransformationExtraArgs,
    options: Options,
    state: TrainState,
    grads: Params,
    out: GradientOut,
    **extra_args: Any,
) -> tuple[TrainState, Logs]:
    """The state after this step, and the step's logs: device scalars, nothing copied to the host."""
    check_parts(options, state)
    with adding_notes("beat four, the update", state, grads=grads):
        return _update(tx, options, state, grads, out, extra_args)


def _update(
    tx: optax.GradientTransformationExtraArgs,
    options: Options,
    state: TrainState,
    grads: Params,
    out: GradientOut,
    extra_args: dict[str, Any],
) -> tuple[TrainState, Logs]:
    extra_args = {"value": out.loss, "grad": grads, **extra_args}
    base = overlaid(state.params, out.written)
    updates, opt_state = scaled_updates(
        tx.update, state.lr_scale, grads, state.opt_state, base, extra_args=extra_args
    )
    params = jax.tree.map(lambda param, update: (param + update).astype(param.dtype), base, updates)
    needs_norm = options.reads("grad_norm") or options.guard is not None or state.loss_scale is not None
    grad_norm = norm(_apart(grads)) if needs_norm else None
    logs = {"loss": out.loss, "grad_norm": grad_norm, "weight": out.weight}
    if options.reads("learning_rate"):
        logs["learning_rate"] = _learning_rate(options, state, opt_state)
    is_through = was_applied(state.opt_state, opt_state)
    changes = {"params": params, "rest": out.rest, "opt_state": opt_state, "metrics": out.metrics}
    if options.ema is not None:
        assert state.ema is not None  # `check_parts` has seen it
        ema = updated_ema(options.ema, state.ema, params, state.num_updates)
        changes["ema"] = ema if is_through is None else select_whole(is_through, ema, state.ema)
    verdict = verdict_on(options, state, grads, out, params, grad_norm)
    if verdict.applied is not None:
        before = {name: getattr(state, name) for name in changes}
        changes = select(verdict.applied, settled(changes), settled(before))
    is_applied = both(verdict.applied, is_through)
    changes |= {"numbers": advanced(state.numbers, is_applied)}
    changes |= {"loss_scale": verdict.loss_scale, "guard": verdict.guard}
    logs = {name: each for name, each in (logs | verdict.logs | out.logged).items() if each is not None}
    logs = {name: each for name, each in logs.items() if options.reads(name)}
    return settled((dataclasses.replace(state, **changes), logs))


def _learning_rate(options: Options, state: TrainState, opt_state: OptState) -> jax.Array | None:
    rate = learning_rate(options.schedule, state, opt_state)
    if rate is None and options.logs is not None:
        raise ValueError(
            "logs names 'learning_rate', and the optimizer does not tell it. Give four_beats the schedule "
            "that the optimizer was given, schedule=, or make it with optax.inject_hyperparams."
        )
    return rate


def _apart(grads: Params) -> Any:
    """The same gradients, but XLA cannot share the squares of large ones with Adam.

    Otherwise XLA would write the squares out whole for their two readers: on CPU 0.30 ms for 800,000 values,
    where a sum of squares of its own takes 0.04. A small gradient is part of a larger
    fusion, which a barrier would cut; that costs a bit.
    """
    return jax.tree.map(
        lambda grad: jax.lax.optimization_barrier(grad) if grad.size >= LARGE else grad, grads
    )


class Verdict(NamedTuple):
    """What was decided about a step.

    Attributes:
      applied: bool scalar, or None where every step is.
      guard: the guard's state after the step, or None.
      loss_scale: the loss scale after the step, or None.
      logs: what there is to log.
    """

    applied: jax.Array | None
    guard: GuardState | None
    loss_scale: LossScale | None
    logs: Logs


def verdict_on(
    options: Options,
    state: TrainState,
    grads: Params,
    out: GradientOut,
    params: Params,
    grad_norm: jax.Array | None,
) -> Verdict:
    """The verdict on a step that would give `params`; without options and weights it computes nothing."""
    applied, guard, loss_scale = out.has_weight, state.guard, state.loss_scale
    logs: Logs = {}
    overflow = None
    if loss_scale is not None:
        assert grad_norm is not None
        finite = jnp.isfinite(grad_norm)
        logs = {"finite": finite & jnp.isfinite(out.loss), "loss_scale": loss_scale.scale}
        # where the loss is finite and the scale can be lowered, the scale is at fault and not the data
        overflow = ~finite & jnp.isfinite(out.loss) & (loss_scale.scale > 1)
        loss_scale = loss_scale.after(finite, counts=applied)
        applied = both(applied, finite)
    if options.guard is not None:
        assert grad_norm is not None
        applied, guard, seen = _guarded(options, state, grads, out, params, grad_norm, applied, overflow)
        logs |= seen
    return Verdict(applied, guard, loss_scale, logs)


def check_parts(options: Options, state: TrainState) -> None:
    """Raise `ValueError` where the options need a part that the state does not have."""
    needs = {
        "guard": options.guard is not None,
        "ema": options.ema is not None,
        "loss_scale": options.scales_loss,
    }
    for name, needed in needs.items():
        if needed and getattr(state, name) is None:
            raise ValueError(
                f"these beats need state.{name}, and it is None: the state is from the init of other beats. "
                "Start from this beats.init, and hand on what you keep: "
                f"beats.init(model).replace(params=state.params, opt_state=state.opt_state)."
            )


def _guarded(
    options: Options,
    state: TrainState,
    grads: Params,
    out: GradientOut,
    params: Params,
    grad_norm: jax.Array,
    applied: jax.Array | None,
    overflow: jax.Array | None,
) -> tuple[jax.Array, GuardState, Logs]:
    # The norm of the update is that of what the parameters would move by: a second reader of the
    # optimizer's own output would change how XLA fuses it, which costs bits.
    update_norm = norm(jax.tree.map(jnp.subtract, params, state.params))
    assert options.guard is not None
    assert state.guard is not None
    good, finite = options.guard.is_good(state.guard, out.loss, grad_norm, update_norm)
    if out.has_weight is not None:  # where nothing counts nothing is bad, whatever the model gave
        good |= ~out.has_weight
    applied = good if applied is None else good & applied
    guard = options.guard.after(
        state.guard,
        good if overflow is None else good | overflow,
        applied,
        step=state.step + 1,
        loss=out.loss,
        grad_norm=grad_norm,
        bad_values=_bad_values(grads, params),
        bad_examples=out.bad_examples,
    )
    return applied, guard, {"finite": finite, "update_norm": update_norm}


def _bad_values(grads: Params, params: Params) -> Callable[[], list[tuple[jax.Array, jax.Array]]]:
    """A function that counts the bad values of each gradient and each new parameter; a conditional calls it.

    A small gradient is counted here: it would be written out whole for the conditional, which costs a bit
    in others. A large one is written out in any case, and so is a parameter.
    """
    leaves = jax.tree.leaves(grads)
    small = [num_bad_values(leaf) if leaf.size < LARGE else None for leaf in leaves]

    def count() -> list[tuple[jax.Array, jax.Array]]:
        of_grads = [
            num_bad_values(leaf) if seen is None else seen for seen, leaf in zip(small, leaves, strict=True)
        ]
        return of_grads + list(map(num_bad_values, jax.tree.leaves(params)))

    return count
