"""What a guard has skipped, in words, where the user asks."""

from typing import Any

import jax
import numpy as np

from fourbeat.guard.guard_state import GuardState


class BadStepError(FloatingPointError):
    """More steps in a row were skipped than allowed."""


def check(state: Any, max_consecutive: int = 0) -> None:
    """Raises where a guard has skipped too many bad steps in a row; reads from the device, so waits for it.

    Args:
      state: a `TrainState` of beats with a guard.
      max_consecutive: so many bad steps in a row, at any time since `init`, are still allowed.

    Raises:
      BadStepError: names the last bad step, its first bad leaf with its numbers of NaN and Inf, and
        the rows of its batch.
      ValueError: the state has no guard.
    """
    if getattr(state, "guard", None) is None:
        raise ValueError(
            "cannot check: this state has no guard. Pass four_beats(..., guard=fb.guard.skip()) and start "
            "from its init."
        )
    guard = jax.device_get(state.guard)
    if guard.longest > max_consecutive:
        raise BadStepError(_in_words(guard, state.params))


def _in_words(guard: GuardState, params: Any) -> str:
    step, leaf = int(guard.step), int(guard.leaf)
    loss, grad_norm = guard.values[:2]
    with_paths = jax.tree_util.tree_leaves_with_path(params)
    names = [root + jax.tree_util.keystr(path) for root in ("grads", "params") for path, _ in with_paths]
    sizes = [value.size for _, value in with_paths] * 2
    numbers = f"loss {loss:.6g}, gradient norm {grad_norm:.6g}"
    if leaf < 0:
        what = f"its numbers are finite but exploded or overflow in the norm ({numbers})"
    elif leaf == len(names):
        what = f"the loss is {loss:.6g}, the gradients and the update are finite ({numbers})"
    else:
        what = (
            f"{names[leaf]} has {int(guard.num_nan)} NaN and {int(guard.num_inf)} Inf among its "
            f"{sizes[leaf]} values ({numbers})"
        )
    return (
        f"step {step} was skipped: {what}. {_rows_in_words(guard)} Skipped as bad so far: "
        f"{int(guard.num_bad)}, at most {int(guard.longest)} in a row. The state is as before it. Look at "
        f"batches[{step - 1}], or find the operation with fb.guard.locate(beats, state, batch)."
    )


def _rows_in_words(guard: GuardState) -> str:
    rows = [str(row) for row in np.asarray(guard.rows) if row >= 0]
    if not rows:
        return "No row of its batch stands out."
    more = f" and {int(guard.num_rows) - len(rows)} more" if guard.num_rows > len(rows) else ""
    return f"Bad rows of its batch: {', '.join(rows)}{more}."
