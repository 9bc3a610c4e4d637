"""Whether a step is applied: a batch of no weight, an overflow in float16 and a guard can each forbid it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fourbeat.beats.gradient import GradientOut
from fourbeat.beats.norms import LARGE, norm
from fourbeat.beats.options import Options
from fourbeat.beats.state import TrainState
from fourbeat.guard.state import GuardState, num_bad_values
from fourbeat.precision import LossScale


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
    logs: dict[str, jax.Array]


def judged(
    options: Options, state: TrainState, grads: Any, out: GradientOut, params: Any, grad_norm: jax.Array
) -> Verdict:
    """The verdict on a step that would give `params`; without options and weights it computes nothing."""
    applied, guard, loss_scale = out.has_weight, state.guard, state.loss_scale
    logs: dict[str, jax.Array] = {}
    overflow = None
    if loss_scale is not None:
        finite = jnp.isfinite(grad_norm)
        logs = {"finite": finite & jnp.isfinite(out.loss), "loss_scale": loss_scale.scale}
        # with a scale left to lower, and a loss that is finite, it is no fault of the data
        overflow = ~finite & jnp.isfinite(out.loss) & (loss_scale.scale > 1)
        loss_scale = loss_scale.after(finite, counts=applied)
        applied = _both(applied, finite)
    if options.guard is not None:
        applied, guard, seen = _guarded(options, state, grads, out, params, grad_norm, applied, overflow)
        logs |= seen
    return Verdict(applied, guard, loss_scale, logs)


def check_parts(options: Options, state: TrainState) -> None:
    """Raise `ValueError` where the options need a part that the state does not have."""
    scales_loss = options.precision is not None and options.precision.scales_loss
    needs = {"guard": options.guard is not None, "ema": options.ema is not None, "loss_scale": scales_loss}
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
    grads: Any,
    out: GradientOut,
    params: Any,
    grad_norm: jax.Array,
    applied: jax.Array | None,
    overflow: jax.Array | None,
) -> tuple[jax.Array, GuardState, dict[str, jax.Array]]:
    # The norm of the update is that of what the parameters would move by: a second reader of the
    # optimizer's own output would cost bits, as `_applied` in `update` explains.
    update_norm = norm(jax.tree.map(jnp.subtract, params, state.params))
    assert options.guard is not None
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
        bad_rows=out.bad_rows,
    )
    return applied, guard, {"finite": finite, "update_norm": update_norm}


def _bad_values(grads: Any, params: Any) -> Callable[[], list[tuple[jax.Array, jax.Array]]]:
    """What counts the bad values of each gradient and each new parameter, to be called in a conditional.

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


def _both(condition: jax.Array | None, other: jax.Array) -> jax.Array:
    return other if condition is None else condition & other
