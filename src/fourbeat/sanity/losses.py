"""Whether the loss starts near that of a guess, falls, and depends on each example alone."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from fourbeat.beats import Beats, TrainState
from fourbeat.metrics import Metric
from fourbeat.sanity.batch_contents import labels_of, named
from fourbeat.sanity.report import Finding
from fourbeat.trees.example_counts import common_num_examples
from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import Aux, Batch, Object

_MUST_FALL = 0.9  # the loss of one batch must fall below this share of what it was


def initial_loss(loss: float, columns: Batch, aux: Aux) -> Finding:
    """Whether the loss of an untrained model is near that of a guess."""
    name = "loss at initialisation"
    logits, labels = named(aux, "logits"), labels_of(columns, aux)
    if not math.isfinite(loss):
        return Finding(name, "warn", f"it is {loss}. Find the operation with fb.guard.locate")
    if logits is not None and labels is not None and logits.shape == labels.shape:
        return _loss_by_label(loss, logits, labels)
    if logits is None or logits.ndim < 2:
        return Finding(name, "skip", f"{loss:.4g}; no logits in aux to compare with")
    guess = math.log(logits.shape[-1])
    seen = f"{loss:.4g}; a uniform guess among {logits.shape[-1]} classes has {guess:.4g}"
    return _near(loss, [guess], seen)


def _loss_by_label(loss: float, logits: jax.Array, labels: jax.Array) -> Finding:
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


def overfitted(train_step: Callable, state: TrainState, columns: Batch, num_steps: int) -> list[float]:
    """The losses of `num_steps` training steps on this one batch."""
    step = jax.jit(train_step)
    losses = []
    for _ in range(num_steps):
        state, logs = step(state, columns)
        losses.append(logs["loss"])
    return [float(loss) for loss in jax.device_get(losses)]


def falling(losses: list[float]) -> Finding:
    """Whether the losses of one batch, trained on alone, fall."""
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


def examples_apart(beats: Beats, state: TrainState, columns: Batch, crossed: list[str]) -> Finding:
    """Whether the loss of an example depends on another one. It changes the middle example to find out."""
    name = "examples apart"
    if crossed:
        return Finding(name, "error", crossed[0])
    num = common_num_examples(columns)
    if num is None or num < 2:
        return Finding(name, "skip", "no two examples to compare")
    middle = num // 2
    changed = {
        place: leaf if place == "batch['weight']" or leaf.ndim == 0 else _with_another(leaf, middle)
        for place, leaf in leaves_with_paths(columns, "batch")
    }
    changed = jax.tree.unflatten(jax.tree.structure(columns), list(changed.values()))
    items = jax.jit(lambda state, columns: beats.eval_step(state, columns, _ItemLosses()).items)
    try:
        before, after = (np.asarray(items(state, each), np.float32) for each in (columns, changed))
    except Exception as error:  # a loss that needs its key, or writes, runs only in training
        return Finding(
            name, "skip", f"the loss does not run in evaluation mode: {str(error).splitlines()[0]}"
        )
    if all(np.all(each == each[0]) for each in (before, after)):
        return Finding(name, "skip", "the loss is one value for the whole batch")
    alike = np.isclose(before, after, rtol=1e-4, atol=1e-6, equal_nan=True).reshape(num, -1).all(1)
    others = np.flatnonzero(~alike & (np.arange(num) != middle))
    if others.size:
        return Finding(
            name,
            "warn",
            f"example {middle} changes the losses of {others.size} others, that of example {others[0]} "
            "among them: this is right where examples are contrasted, and otherwise a broadcast or a mean "
            "over the wrong axis",
        )
    return Finding(name, "ok", f"no other loss changes with example {middle}")


def _with_another(leaf: Object, place: int) -> Any:
    """The column with the content of another example at `place`, the first that differs from it."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    host = np.asarray(leaf)
    differs = (host != host[place]).reshape(len(host), -1).any(1)
    if differs.any():
        return leaf.at[place].set(leaf[int(np.argmax(differs))])
    return leaf.at[place].add(1) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _ItemLosses(Metric):
    """The loss of each item, as the last update gave it."""

    items: Object = None

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> "_ItemLosses":
        return _ItemLosses(values["loss"])

    def merge(self, other: Object, /) -> "_ItemLosses":
        return other

    def compute(self) -> Any:
        return self.items

    def reset(self) -> "_ItemLosses":
        return _ItemLosses()


jax.tree_util.register_dataclass(_ItemLosses, data_fields=["items"], meta_fields=[])
