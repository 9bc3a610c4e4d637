"""The learning rate range test: the loss while the rate grows from step to step."""

import dataclasses
from typing import Any

import jax
import numpy as np

from fourbeat.beats import Beats, TrainState
from fourbeat.compiling import compile
from fourbeat.evaluating.programs import mesh_of
from fourbeat.looping import at, loop
from fourbeat.trees.buffers import copied
from fourbeat.trees.donation import explaining_used_up
from fourbeat.tuning.rate_rules import RULES, smoothed
from fourbeat.tuning.rates_in_states import rate_setter
from fourbeat.types import Batch, BatchSource, Figure, Scalar

_FEWEST = 5  # points that a rule needs
_RELATIVE = "a multiple of the optimizer's own rate"


@dataclasses.dataclass(frozen=True, eq=False)
class RateRange:
    """What a range test has seen. Printed, it is a sentence or two.

    Attributes:
      rates: float64 (n,), the rates of the updates, growing.
      losses: float64 (n,), the loss of the next batch after each of them; all finite.
      suggestion: a rate to train with; None where no loss fell.
      rule: how the suggestion is found, and where the rule is from, in a sentence.
      ended: why the test ended, in words.
      is_relative: whether rates are multiples of the optimizer's own, which nothing tells: then
        `state.replace(lr_scale=found.suggestion)` trains with the suggestion.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float | None
    rule: str
    ended: str
    is_relative: bool

    def plot(self) -> Figure:
        """The losses over the rates, smoothed too, with the suggestion; a figure of matplotlib's."""
        from matplotlib.figure import Figure  # the plain class: no pyplot, no window, no global state

        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(self.rates, self.losses, color="C0", alpha=0.35, linewidth=1, label="loss of a batch")
        if len(self.losses):
            axes.plot(self.rates, smoothed(self.losses), color="C0", label="smoothed")
        if self.suggestion is not None:
            axes.axvline(
                self.suggestion, color="C1", linestyle="--", label=f"suggestion {self.suggestion:.2g}"
            )
        unit = f"learning rate, as {_RELATIVE}" if self.is_relative else "learning rate"
        axes.set(xscale="log", xlabel=unit, ylabel="loss", title="Learning rate range test")
        axes.grid(alpha=0.3)
        axes.legend()
        return figure

    def __repr__(self) -> str:
        unit = f" ({_RELATIVE})" if self.is_relative else ""
        what = "no suggestion" if self.suggestion is None else f"suggestion {self.suggestion:.3g}{unit}"
        return f"{what}: {self.rule}. The test ended {self.ended}."


@explaining_used_up
def lr_range_test(
    beats: Beats,
    state: TrainState,
    batches: BatchSource,
    *,
    low: float | None = None,
    high: float | None = None,
    num_steps: int = 100,
    learning_rate: float | None = None,
    rule: str = "valley",
    diverged: float = 4.0,
    **inputs: Any,
) -> RateRange:
    """Trains a copy of a state with a rate that grows by the same factor each step, and suggests one.

    The state stays as it is, bit for bit. The rate is set where the optimizer holds it, with
    `optax.inject_hyperparams`; for any other optimizer `state.lr_scale` multiplies the updates. In Optax's
    own optimizers, `adamw` with its decay included, the rate multiplies the whole update last, so both are
    the same. Where the rate acts within the update too (`optax.contrib.schedule_free`, a decay that is
    added after the rate), inject it.

    A rate is what multiplies an update. Where the optimizer has a schedule, it is the schedule's value times
    the scale, and the suggestion is a rate for the schedule's peak. Give the schedule to `four_beats` too.
    Test without what changes the rate by the losses, such as `optax.contrib.reduce_on_plateau`.

    Args:
      beats: from `four_beats`.
      state: where to begin; usually from `beats.init`.
      batches: as `fourbeat.loop` takes them; an iterator or a stream is read on.
      low: the first rate; default 1e-7, or 1e-5 for rates that are relative.
      high: the last rate; default 10, or 1e5.
      num_steps: updates.
      learning_rate: the rate that the optimizer was made with, where neither `optax.inject_hyperparams` nor
        a schedule tells it. Without it rates are multiples of that rate.
      rule: "valley" or "steepest"; see the result's `rule`.
      diverged: the test ends where the loss is so many times its least. It also ends at a loss that is not
        finite, which it leaves out.
      inputs: of the loss function, by name.

    Raises:
      ValueError: a number is out of range, or the optimizer has a schedule that the beats do not know.

    >>> import fourbeat as fb, jax.numpy as jnp, optax
    >>> loss_fn = lambda model, batch: (model["w"] * batch["x"] - 1) ** 2
    >>> beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    >>> state = beats.init({"w": jnp.zeros(())})
    >>> found = lr_range_test(beats, state, [{"x": jnp.ones(4)}], learning_rate=0.1)
    >>> 0.001 < found.suggestion < 0.5
    True

    See Smith, Cyclical Learning Rates for Training Neural Networks, 2015 (arXiv 1506.01186).
    """
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}. Use {' or '.join(map(repr, RULES))}.")
    setter = rate_setter(beats, state, learning_rate)
    defaults = (1e-5, 1e5) if setter.is_relative else (1e-7, 10.0)
    low, high = (
        default if given is None else given for given, default in zip((low, high), defaults, strict=True)
    )
    if not (0 < low < high and num_steps >= _FEWEST):
        raise ValueError(
            f"low is {low!r}, high {high!r} and num_steps {num_steps!r}. Rates grow from low, above 0, to a "
            f"larger high, in at least {_FEWEST} steps."
        )
    rates, losses, ended = _grown(
        beats.given(**inputs), state, batches, setter.apply, np.geomspace(low, high, num_steps), diverged
    )
    place = RULES[rule].place(smoothed(losses)) if len(losses) >= _FEWEST else None
    suggestion = None if place is None else float(rates[place])
    return RateRange(rates, losses, suggestion, RULES[rule].text, ended, setter.is_relative)


def _grown(
    beats: Beats, state: TrainState, batches: BatchSource, set_rate: Any, rates: np.ndarray, diverged: float
) -> tuple[np.ndarray, np.ndarray, str]:
    """The rates that were used, the loss after each, and why it ended."""

    def range_step(state: TrainState, batch: Batch, *, rate: Scalar) -> tuple[TrainState, dict]:
        state, used = set_rate(state, rate)
        grads, out = beats.gradient(state, batch)
        return beats.update(state, grads, out)[0], {"loss": out.loss, "rate": used}

    step = compile(range_step, mesh=mesh_of(state))
    state = copied(state)
    points, lowest, recent, used = [], np.inf, 0.0, 0.0
    for tick in loop(batches, until=at(steps=len(rates) + 1)):
        number = tick.step - 1
        state, seen = step(state, tick.batch, rate=np.float32(rates[min(number, len(rates) - 1)]))
        loss, now = (float(value) for value in jax.device_get((seen["loss"], seen["rate"])))
        if not np.isfinite(loss):
            when = f"after the rate {used:.3g}" if number else "before any update"
            return *_columns(points), f"at a loss of {loss} {when}"
        if number and used > 0:
            points.append((used, loss))
        # a batch's own loss is noisy: the mean of the last ones tells
        recent = loss if not number else 0.7 * recent + 0.3 * loss
        lowest = min(lowest, recent)
        if number and recent > diverged * lowest and recent - lowest > 1e-6:
            return *_columns(points), f"where the loss had grown to {diverged:g} times its least"
        used = now
    return *_columns(points), "after its last step"


def _columns(points: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    rates, losses = np.array(points, np.float64).reshape(-1, 2).T
    return rates, losses
