"""Says in words what a guard has skipped, when the user asks."""

import dataclasses

import jax
import numpy as np

from fourbeat.guard.guard_state import GuardState
from fourbeat.types import Params, State


class BadStepError(FloatingPointError):
    """More steps in a row were skipped than allowed.

    Attributes:
      report: the whole report.
    """

    def __init__(self, report: "Report"):
        super().__init__(report.text)
        self.report = report


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """What a guard has skipped so far, read from the device. Printed, it is `text`.

    Attributes:
      ok: whether no more bad steps in a row were skipped than allowed.
      text: the last bad step, its first bad leaf with its numbers of NaN and Inf, and the examples of its
        batch, in words.
      num_bad: bad steps so far.
      longest: the most of them in a row.
      step: the last bad step, as `tick.step` counts; 0 if there was none.
      examples: the first bad examples of its batch, by their place in it.
    """

    ok: bool
    text: str
    num_bad: int
    longest: int
    step: int
    examples: tuple[int, ...]

    def raise_if_bad(self) -> None:
        """Raises where it is not `ok`.

        Raises:
          BadStepError: with `text`.
        """
        if not self.ok:
            raise BadStepError(self)

    def __repr__(self) -> str:
        return self.text


def check(state: State, max_consecutive: int = 0, *, raises: bool = True) -> Report:
    """Raises where a guard has skipped too many bad steps in a row. It waits for the device.

    Args:
      state: a `TrainState` of beats with a guard; or that of replicas, where the report says which members
        had bad steps, and its numbers are those of the member with the most bad steps in a row.
      max_consecutive: how many bad steps in a row are still allowed, at any time since `init`.
      raises: whether to raise at once, as a loop that reads no report needs it; else look at the report's
        `.ok`, or raise later with its `.raise_if_bad()`.

    Returns:
      The report.

    Raises:
      BadStepError: names the last bad step, its first bad leaf with its numbers of NaN and Inf, and
        the bad examples of its batch.
      ValueError: the state has no guard.

    >>> import jax.numpy as jnp, optax, fourbeat as fb
    >>> loss_fn = lambda model, batch: model["w"] * batch["x"]
    >>> beats = fb.four_beats(loss_fn, optax.sgd(0.1), guard=fb.guard.skip())
    >>> state, _ = beats.train_step(beats.init({"w": jnp.ones(())}), {"x": jnp.array([1.0, jnp.nan])})
    >>> report = fb.guard.check(state, raises=False)
    >>> report.ok, report.step, report.examples
    (False, 1, (1,))
    """
    if hasattr(state, "members"):
        report = _of_all([check(each, max_consecutive, raises=False) for each in state.members])
        if raises:
            report.raise_if_bad()
        return report
    if getattr(state, "guard", None) is None:
        raise ValueError(
            "cannot check: this state has no guard. Pass four_beats(..., guard=fb.guard.skip()) and start "
            "from its init."
        )
    guard = jax.device_get(state.guard)
    report = Report(
        ok=bool(guard.longest <= max_consecutive),
        text=_in_words(guard, state.params),
        num_bad=int(guard.num_bad),
        longest=int(guard.longest),
        step=int(guard.step),
        examples=tuple(int(place) for place in np.asarray(guard.examples) if place >= 0 and guard.num_bad),
    )
    if raises:
        report.raise_if_bad()
    return report


def _of_all(reports: list[Report]) -> Report:
    """What the guards of several members have skipped."""
    worst = max(reports, key=lambda report: (not report.ok, report.longest))
    said = [f"member {place}: {report.text}" for place, report in enumerate(reports) if report.num_bad]
    text = "\n".join(said) if said else "No step of any member was skipped as bad."
    return dataclasses.replace(worst, text=text)


def _in_words(guard: GuardState, params: Params) -> str:
    if not guard.num_bad:
        return "No step was skipped as bad."
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
        f"step {step} was skipped: {what}. {_examples_in_words(guard)} Skipped as bad so far: "
        f"{int(guard.num_bad)}, at most {int(guard.longest)} in a row. The state is as before it. Look at "
        f"batches[{step - 1}], or find the operation with fb.guard.locate(beats, state, batch)."
    )


def _examples_in_words(guard: GuardState) -> str:
    places = [str(place) for place in np.asarray(guard.examples) if place >= 0]
    if not places:
        return "No example of its batch stands out."
    more = f" and {int(guard.num_examples) - len(places)} more" if guard.num_examples > len(places) else ""
    return f"Bad examples of its batch: {', '.join(places)}{more}."
