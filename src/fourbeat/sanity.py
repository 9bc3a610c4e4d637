"""Sanity: what makes training useless without an error, looked for before it starts."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from fourbeat.beats.class_axes import indexed_length
from fourbeat.data.batch import columns_of
from fourbeat.metrics import CrossedExamplesWarning, Metric
from fourbeat.trees.paths import leaves_with_paths
from fourbeat.trees.rows import common_rows

_LARGE = 20.0  # of an input's mean or deviation: images in 0..255 are above, most scaled data far below
_MUST_FALL = 0.9  # the loss of one batch must fall below this share of what it was


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
      check: its name.
      status: "ok", "warn", "error" for what is always wrong, or "skip" where there is nothing to check.
      seen: what was seen, in words.
    """

    check: str
    status: Literal["ok", "warn", "error", "skip"]
    seen: str


@dataclasses.dataclass(frozen=True)
class Report:
    """The findings of all checks. Printed by `check`.

    Attributes:
      findings: one for each check, in order.
    """

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no check warns or gives an error."""
        return all(finding.status in ("ok", "skip") for finding in self.findings)

    def __getitem__(self, check: str) -> Finding:
        return {finding.check: finding for finding in self.findings}[check]

    def show(self) -> None:
        """Prints the findings as a table."""
        from rich.console import Console
        from rich.table import Table

        table = Table("check", "", "seen")
        colours = {"ok": "green", "warn": "bold red", "error": "bold red", "skip": "dim"}
        for finding in self.findings:
            style = colours[finding.status]
            table.add_row(finding.check, f"[{style}]{finding.status}[/{style}]", _escaped(finding.seen))
        Console().print(table)


def check(beats: Any, state: Any, batch: Any, *, overfit_steps: int = 50, show: bool = True) -> Report:
    """Looks for what makes training useless in silence, on one batch, before training.

    The state is as it was, its random state included: all steps run on what they return. It looks at the
    loss against that of a uniform guess, whether the loss of one example depends on another (in evaluation
    mode, where batch statistics are fixed; it warns of contrastive losses too), labels out of range, inputs
    that are not finite or not scaled, columns that nothing reads, parameters and units without gradient, and
    whether the loss of this one batch falls when it is trained on alone.

    Args:
      beats: from `four_beats`. Checks of labels read `logits` and `labels` of the loss function's aux, or the
        batch's column `label` or `labels`.
      state: from its `init`.
      batch: one training batch.
      overfit_steps: training steps on this batch; 0 for none.
      show: whether to print the table.

    Returns:
      The report.

    >>> import optax, fourbeat as fb
    >>> def loss_fn(model, batch):
    ...     return (batch["x"] * model["w"] - batch["y"]) ** 2
    >>> beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    >>> batch = {"x": jnp.ones(4), "y": jnp.ones(4), "z": jnp.ones(4)}
    >>> report = check(beats, beats.init({"w": jnp.zeros(())}), batch, show=False)
    >>> report.ok, report["columns read"].seen
    (False, "batch['z'] changes neither loss, metrics nor other variables")
    """
    columns = columns_of(batch)
    columns = jax.tree.map(jnp.asarray, columns)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CrossedExamplesWarning)
        (grads, out), aux = jax.jit(lambda s, b: (beats.gradient(s, b), beats.loss(s, b)[1]))(state, columns)
    crossed = [str(each.message) for each in caught if issubclass(each.category, CrossedExamplesWarning)]
    for each in caught:
        if not issubclass(each.category, CrossedExamplesWarning):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrossedExamplesWarning)
        return _report(beats, state, columns, grads, out, aux, crossed, overfit_steps, show)


def _report(
    beats: Any,
    state: Any,
    columns: Any,
    grads: Any,
    out: Any,
    aux: Any,
    crossed: list[str],
    overfit_steps: int,
    show: bool,
) -> Report:
    losses = _overfitted(beats.train_step, state, columns, overfit_steps)
    findings = (
        _initial_loss(float(out.loss), columns, aux),
        _rows_apart(beats, state, columns, crossed),
        _labels(beats, state, columns, aux),
        _inputs(columns),
        _columns_read(beats.gradient, state, columns),
        _gradients(grads),
        _units(grads),
        _falling(losses),
    )
    report = Report(findings)
    if show:
        report.show()
    return report


def _initial_loss(loss: float, columns: Any, aux: Any) -> Finding:
    name = "loss at initialisation"
    logits, labels = _of(aux, "logits"), _labels_of(columns, aux)
    if not math.isfinite(loss):
        return Finding(name, "warn", f"it is {loss}. Find the operation with fb.guard.locate")
    if logits is not None and labels is not None and logits.shape == labels.shape:
        return _loss_by_label(loss, logits, labels)
    if logits is None or logits.ndim < 2:
        return Finding(name, "skip", f"{loss:.4g}; no logits in aux to compare with")
    guess = math.log(logits.shape[-1])
    seen = f"{loss:.4g}; a uniform guess among {logits.shape[-1]} classes has {guess:.4g}"
    return _near(loss, [guess], seen)


def _loss_by_label(loss: float, logits: Any, labels: Any) -> Finding:
    """One logit a label: each is one of two classes, or, where the labels of an item sum to 1, of all."""
    guess = math.log(2)
    guesses, num_labels = [guess], logits.shape[-1] if logits.ndim > 1 else 1
    seen = f"{loss:.4g}; a guess between two classes has {guess:.4g}"
    if num_labels > 1:
        guesses.append(num_labels * guess)
        seen += f", and {num_labels * guess:.4g} summed over {num_labels} labels"
        if np.allclose(np.asarray(labels, np.float32).sum(-1), 1):
            guesses.append(math.log(num_labels))
            seen += f"; one among {num_labels} classes {math.log(num_labels):.4g}"
    return _near(loss, guesses, seen)


def _near(loss: float, guesses: list[float], seen: str) -> Finding:
    name = "loss at initialisation"
    if any(0.5 * guess < loss < 1.5 * guess + 0.5 for guess in guesses):
        return Finding(name, "ok", seen)
    return Finding(name, "warn", f"{seen}. Look at the loss's reduction and the last layer's scale")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Items(Metric):
    """The loss of each item, as the last update gave it."""

    items: Any = None

    def update(self, /, *, weight: Any = None, **values: Any) -> "_Items":
        return _Items(values["loss"])

    def merge(self, other: Any, /) -> "_Items":
        return other

    def compute(self) -> Any:
        return self.items

    def reset(self) -> "_Items":
        return _Items()


jax.tree_util.register_dataclass(_Items, data_fields=["items"], meta_fields=[])


def _rows_apart(beats: Any, state: Any, columns: Any, crossed: list[str]) -> Finding:
    """Whether the loss of an example depends on another one: the middle one is changed."""
    name = "examples apart"
    if crossed:
        return Finding(name, "error", crossed[0])
    rows = common_rows(columns)
    if rows is None or rows < 2:
        return Finding(name, "skip", "no two rows to compare")
    middle = rows // 2
    changed = {
        place: leaf if place == "batch['weight']" or leaf.ndim == 0 else _with_another(leaf, middle)
        for place, leaf in leaves_with_paths(columns, "batch")
    }
    changed = jax.tree.unflatten(jax.tree.structure(columns), list(changed.values()))
    items = jax.jit(lambda state, columns: beats.eval_step(state, columns, _Items()).items)
    try:
        before, after = (np.asarray(items(state, each), np.float32) for each in (columns, changed))
    except Exception as error:  # a loss that needs its key, or writes, runs in training alone
        return Finding(
            name, "skip", f"the loss does not run in evaluation mode: {str(error).splitlines()[0]}"
        )
    if all(np.all(each == each[0]) for each in (before, after)):
        return Finding(name, "skip", "the loss is one value for the whole batch")
    alike = np.isclose(before, after, rtol=1e-4, atol=1e-6, equal_nan=True).reshape(rows, -1).all(1)
    others = np.flatnonzero(~alike & (np.arange(rows) != middle))
    if others.size:
        return Finding(
            name,
            "warn",
            f"example {middle} changes the losses of {others.size} others, that of example {others[0]} among "
            "them: right where examples are contrasted, else a broadcast or a mean over the wrong axis",
        )
    return Finding(name, "ok", f"no other loss changes with example {middle}")


def _with_another(leaf: Any, row: int) -> Any:
    """The column with the content of another row at `row`, the first that differs from it."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    host = np.asarray(leaf)
    differs = (host != host[row]).reshape(len(host), -1).any(1)
    if differs.any():
        return leaf.at[row].set(leaf[int(np.argmax(differs))])
    return leaf.at[row].add(1) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf


def _labels_of(columns: Any, aux: Any) -> Any:
    labels = _of(aux, "labels")
    for column in ("label", "labels"):
        labels = _of(columns, column) if labels is None else labels
    return labels


def _labels(beats: Any, state: Any, columns: Any, aux: Any) -> Finding:
    name = "labels in range"
    logits, labels = _of(aux, "logits"), _labels_of(columns, aux)
    is_binary = logits is not None and labels is not None and logits.shape == labels.shape
    if labels is None or not (is_binary or jnp.issubdtype(labels.dtype, jnp.integer)):
        return Finding(name, "skip", "no integer labels")
    num_classes = 2 if is_binary else None if logits is None else logits.shape[-1]
    if num_classes is None:
        num_classes = _classes_by_use(beats, state, columns)
    values = np.asarray(labels)
    weight = _of(columns, "weight")
    if weight is not None and values.shape[: weight.ndim] == weight.shape:
        values = values[np.asarray(weight) > 0]
    if values.size == 0:
        return Finding(name, "skip", "no label has weight")
    bad = np.unique(values[(values < 0) | (values > (np.inf if num_classes is None else num_classes - 1))])
    last = "" if num_classes is None else num_classes - 1
    if bad.size:
        shown = ", ".join(map(str, bad[:5]))
        verb = "is" if bad.size == 1 else "are"
        advice = "their loss is garbage or NaN. Give their items a weight of 0"
        return Finding(name, "warn", f"{shown} {verb} not in 0..{last}: {advice}")
    of = "labels, of how many classes nothing tells" if num_classes is None else f"{num_classes} classes"
    return Finding(name, "ok", f"{values.min()}..{values.max()} of {of}")


def _classes_by_use(beats: Any, state: Any, columns: Any) -> int | None:
    """How many classes the loss tells apart by the batch's column of labels."""
    name = next((name for name in ("label", "labels") if _of(columns, name) is not None), None)
    if name is None:
        return None
    loss = lambda labels: beats.loss(state, {**columns, name: labels})[0]
    jaxpr = jax.make_jaxpr(loss)(columns[name]).jaxpr
    return indexed_length(jaxpr, set(jaxpr.invars))


def _inputs(columns: Any) -> Finding:
    name = "inputs scaled"
    seen, bad = [], []
    for place, leaf in leaves_with_paths(columns, "batch"):
        is_picture = leaf.dtype == jnp.uint8 and leaf.ndim > 2  # other integers are labels, tokens, counts
        is_input = is_picture or jnp.issubdtype(leaf.dtype, jnp.floating)
        if not is_input or place == "batch['weight']" or leaf.size == 0:
            continue
        values = np.asarray(leaf, np.float64)
        if not np.isfinite(values).all():
            bad.append(f"{place} holds {int((~np.isfinite(values)).sum())} NaN or Inf")
            continue
        mean, deviation = values.mean(), values.std()
        (bad if max(abs(mean), deviation) > _LARGE else seen).append(
            f"{place} has mean {mean:.3g}, deviation {deviation:.3g}"
        )
    if bad:
        return Finding(name, "warn", "; ".join(bad) + ". Scale to about mean 0, deviation 1")
    return Finding(name, "ok" if seen else "skip", "; ".join(seen) or "no floating-point column")


def _columns_read(gradient: Callable, state: Any, columns: Any) -> Finding:
    name = "columns read"

    def outcome(columns: Any) -> Any:
        _, out = gradient(state, columns)
        return out.loss, out.rest, out.metrics

    jaxpr = jax.make_jaxpr(outcome)(columns).jaxpr
    read = _needed(jaxpr)
    places = [place for place, _ in leaves_with_paths(columns, "batch")]
    unread = [place for place, var in zip(places, jaxpr.invars, strict=True) if var not in read]
    if unread:
        verb = "changes" if len(unread) == 1 else "change"
        return Finding(name, "warn", f"{', '.join(unread)} {verb} neither loss, metrics nor other variables")
    return Finding(name, "ok", f"all {len(places)}")


def _needed(jaxpr: core.Jaxpr) -> set[Any]:
    """The variables that the outputs depend on."""
    needed = {var for var in jaxpr.outvars if isinstance(var, core.Var)}
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(var for var in equation.invars if isinstance(var, core.Var))
    return needed


def _gradients(grads: Any) -> Finding:
    leaves = leaves_with_paths(grads, "params")
    dead = [place for place, leaf in leaves if not np.asarray(leaf, np.float32).any()]
    if dead:
        more = f" and {len(dead) - 5} more" if len(dead) > 5 else ""
        return Finding("parameters with gradient", "warn", f"{', '.join(dead[:5])}{more} have none")
    return Finding("parameters with gradient", "ok", f"all {len(leaves)}")


def _units(grads: Any) -> Finding:
    """Units of a layer whose weights all have a gradient of 0 for every example: they never fire."""
    name = "live units"
    dead, count = [], 0
    for place, leaf in leaves_with_paths(grads, "params"):
        values = np.asarray(leaf, np.float32)
        if values.ndim < 2 or not values.any():
            continue
        silent = int((~values.reshape(-1, values.shape[-1]).any(0)).sum())
        count += values.shape[-1]
        if silent:
            dead.append(f"{silent} of {values.shape[-1]} of {place}")
    if dead:
        return Finding(name, "warn", f"no gradient reaches {'; '.join(dead)}")
    return Finding(name, "ok" if count else "skip", f"all {count}" if count else "no layer with units")


def _overfitted(train_step: Callable, state: Any, columns: Any, num_steps: int) -> list[float]:
    step = jax.jit(train_step)
    losses = []
    for _ in range(num_steps):
        state, logs = step(state, columns)
        losses.append(logs["loss"])
    return [float(loss) for loss in jax.device_get(losses)]


def _falling(losses: list[float]) -> Finding:
    name = "one batch overfitted"
    if len(losses) < 2:
        return Finding(name, "skip", "no steps asked for")
    first, last = losses[0], float(np.mean(losses[-max(len(losses) // 10, 1) :]))
    seen = f"loss {first:.4g} to {last:.4g} in {len(losses)} steps on this batch alone"
    fell = last < first - (1 - _MUST_FALL) * abs(first)
    if not fell:
        advice = "Look at the learning rate, its warm-up, the labels, and what is trained (wrt)"
        return Finding(name, "warn", f"{seen}. {advice}")
    return Finding(name, "ok", seen)


def _of(mapping: Any, name: str) -> Any:
    return mapping.get(name) if isinstance(mapping, Mapping) else None


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
