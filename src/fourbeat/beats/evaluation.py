"""Evaluation of one batch: its metrics, and a warning where evaluation loses what the forward pass writes."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import nnx
from jax.extend import core

from fourbeat.beats.error_notes import adding_notes
from fourbeat.beats.inputs import EVALUATION
from fourbeat.beats.loss import Forward, LossFunction, forward, updated_metrics
from fourbeat.beats.state import TrainState
from fourbeat.data.batch import columns_of
from fourbeat.metrics import Metric
from fourbeat.models.splitting import read_back
from fourbeat.precision import Policy
from fourbeat.precision.reductions import sums_in_float32
from fourbeat.trees.buffers import settled
from fourbeat.trees.paths import Path, look_up, render_attribute
from fourbeat.types import Batch, Model, Object, Params, Rest


def eval_step(
    loss_fn: LossFunction,
    state: TrainState,
    batch: Batch,
    /,
    metrics: Metric | None,
    *,
    key: jax.Array | None = None,
    carry: bool = False,
    **inputs: Any,
) -> Any:
    """The metrics with one batch counted in.

    Args:
      loss_fn: the loss.
      state: what is scored.
      batch: one batch.
      metrics: so far.
      key: for a loss function that takes one.
      carry: whether to give the state back too, with what the forward pass wrote.
      inputs: of the loss function, by name.

    Returns:
      The metrics; with `carry` `(state, metrics)`.

    Raises:
      TypeError: an input without a default is missing, or unknown.
      ValueError: a key is given and the loss function takes none.
    """
    batch = columns_of(batch)
    loss_fn = loss_fn.given(inputs, EVALUATION)
    if key is not None and not loss_fn.takes_key:
        raise ValueError(
            "evaluation has a key, and loss_fn takes none. Name one of its parameters `key`, or leave key= "
            "out."
        )
    written: list[Path] = []

    def look(params: Params) -> Forward:
        seen = forward(loss_fn, state.static, params, state.rest, batch, key=key, train=False)
        written[:] = written_paths(state, seen.rest)
        return seen

    with adding_notes("evaluation", state, batch), _naming_no_key(loss_fn, key):
        seen = loss_fn.with_wide_sums(look)(state.params)
        metrics = settled(updated_metrics(metrics, batch, seen))
        if carry:
            return dataclasses.replace(state, rest=seen.rest), metrics
        if written:
            again = lambda rest: (
                forward(loss_fn, state.static, state.params, rest, batch, key=key, train=False).rest
            )
            warn_of_dropped_writes("evaluation", "fb.evaluator(beats, carry=True)", state, written, again)
        return metrics


def predict_step(
    predict: Callable | None,
    policy: Policy | None,
    state: TrainState,
    batch: Batch,
    *,
    carry: bool = False,
) -> Any:
    """What `predict(model, batch)` returns, in evaluation mode.

    Args:
      predict: the user's function.
      policy: the precision, or None.
      state: whose model predicts.
      batch: one batch.
      carry: whether to give the state back too, with what the forward pass wrote.

    Returns:
      The outputs; with `carry` `(outputs, state)`.
    """
    if predict is None:
        raise ValueError(
            "predict_step needs to know what to compute. Pass "
            "four_beats(..., predict=lambda model, batch: model(batch['image']))."
        )
    batch, static = columns_of(batch), state.static

    def look(params: Params, rest: Rest) -> tuple[Any, Rest]:
        computed = params if policy is None else policy.computed(static, params)
        made = lambda: static.merge(computed, rest)

        def run(model: Model) -> Any:
            with contextlib.nullcontext() if policy is None else policy.computing(model):
                return predict(model, batch)

        model = made()
        outputs = static.holding.undisturbed(lambda: run(model), lambda: run(made()), predict, model)
        if static.take_apart(model).identity != static.identity:
            return outputs, rest  # as intermediates make it: nothing of them is kept
        return outputs, read_back(static, model, computed, rest)[1]

    written: list[Path] = []

    def looked(params: Params) -> tuple[Any, Rest]:
        outputs, rest = look(params, state.rest)
        written[:] = written_paths(state, rest)
        return outputs, rest

    with adding_notes("the prediction", state, batch):
        outputs, rest = (looked if policy is None else sums_in_float32(looked))(state.params)
        if carry:
            return outputs, dataclasses.replace(state, rest=rest)
        if written:
            again = lambda rest: look(state.params, rest)[1]
            warn_of_dropped_writes("prediction", "fb.predictor(beats, carry=True)", state, written, again)
        return outputs


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


# statistics follow training, random state and intermediates are new in each pass: losing them is meant
_MEANT = (nnx.BatchStat, nnx.RngState, nnx.Intermediate)


class DroppedWriteWarning(UserWarning):
    """Evaluation loses what the forward pass writes to a variable."""


def written_paths(state: TrainState, rest: Rest) -> list[Path]:
    """Where `rest`, after a forward pass, holds other arrays than the state; statistics and keys left out.

    An array that was written back as it was may be among them: see `warn_of_dropped_writes`.
    """
    static = state.static
    owners = {path: what for path, (what, *_) in _variables(static.structure)}

    def is_meant(path: Path) -> bool:
        above = (owners.get(path[:i]) for i in range(len(path), 0, -1))
        owner = next((each for each in above if each is not None), nnx.Variable)
        return issubclass(owner, _MEANT)

    return [
        path
        for (path, is_param), impl in zip(static.places, static.key_impls, strict=True)
        if not is_param and impl is None
        if look_up(rest, path) is not look_up(state.rest, path) and not is_meant(path)
    ]


def warn_of_dropped_writes(
    what: str, repair: str, state: TrainState, paths: list[Path], again: Callable[[Rest], Rest]
) -> None:
    """Warns, once a compilation, of writes in evaluation mode that are lost.

    The forward pass is traced for it, and adds nothing to the program.

    Args:
      what: what loses them, for the text.
      repair: the call that keeps them.
      state: what is evaluated.
      paths: from `written_paths`; those that are only written back, as `nnx.jit` does, are left out.
      again: the forward pass: the other variables before it to those after it.
    """

    def written(rest: Rest) -> list:
        after = again(rest)
        return [look_up(after, path) for path in paths]

    jaxpr = jax.make_jaxpr(written)(state.rest).jaxpr
    given = {id(leaf): var for leaf, var in zip(jax.tree.leaves(state.rest), jaxpr.invars, strict=True)}
    lost = [
        render_attribute("model", path)
        for path, out in zip(paths, jaxpr.outvars, strict=True)
        if _origin(jaxpr, out) is not given[id(look_up(state.rest, path))]
    ]
    if lost:
        more = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
        warnings.warn(
            f"{what} loses what the forward pass writes to {', '.join(lost[:4])}{more}: every batch starts "
            f"from the state's own. Let it go from batch to batch with {repair}, or write it in training "
            "alone; a variable that follows training should be an nnx.BatchStat.",
            DroppedWriteWarning,
            stacklevel=2,
        )


def _variables(structure: tuple) -> list[tuple[Path, tuple]]:
    described = [(path, what) for path, what in structure if isinstance(what, tuple)]
    return [(p, w) for p, w in described if isinstance(w[0], type) and issubclass(w[0], nnx.Variable)]


def _origin(jaxpr: core.Jaxpr, var: Object) -> Any:
    """The input that reaches a variable unchanged, through calls too; else the variable itself."""
    for equation in jaxpr.eqns:
        if not any(var is out for out in equation.outvars):
            continue
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        inner = inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner
        if not isinstance(inner, core.Jaxpr) or len(inner.invars) != len(equation.invars):
            return var
        place = next(i for i, out in enumerate(equation.outvars) if var is out)
        origin = _origin(inner, inner.outvars[place])
        for outer, own in zip(equation.invars, inner.invars, strict=True):
            if own is origin:
                return _origin(jaxpr, outer)
        return var
    return var
