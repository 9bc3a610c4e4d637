"""What a notebook shows of each thing: one short line of words, whatever the thing has been through."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb

DATA = fb.data.Arrays(x=np.arange(10.0, dtype=np.float32))
METRICS = fb.metrics.Collection(
    loss=fb.metrics.Mean("loss"), confusion=fb.metrics.ConfusionMatrix(num_classes=3)
)


def loss_fn(model, batch):
    return (model["w"] * batch["x"]) ** 2


def make_beats(**options):
    return fb.four_beats(loss_fn, optax.sgd(0.1), **options)


FUNCTIONS = "init, loss, gradient, update, train_step, eval_step, predict_step"
STATE = make_beats(guard=fb.guard.skip()).init({"w": jnp.ones(())})
STOP = fb.at(steps=3) | fb.stop_signal()
SHOWN = {
    f"Beats({FUNCTIONS})": lambda: make_beats(),
    f"Beats({FUNCTIONS}; accumulate=2; guard=Skip(spike=None); ema=0.9; schedule=a_schedule)": lambda: (
        make_beats(accumulate=2, guard=fb.guard.skip(), ema=0.9, schedule=a_schedule)
    ),
    "TrainState(step=0, 1 parameters in 1 arrays, with guard)": lambda: STATE,
    "GuardState(num_skipped=0, num_bad=0, longest=0, step=0)": lambda: STATE.guard,
    "Collection(loss=Mean('loss'), confusion=ConfusionMatrix(num_classes=3))": lambda: METRICS,
    "Arrays(10 examples: x float32 ())": lambda: DATA,
    "Batches(3 steps of 4, shuffle=False, seed=0, remainder='pad', resident)": lambda: DATA.batches(4),
    "loop(step=0, until=at(steps=3) | stop_signal(SIGINT, SIGTERM), steps_per_call=1)": lambda: fb.loop(
        DATA.batches(4), until=STOP
    ),
    "every(steps=37)": lambda: fb.every(steps=37),
    "EarlyStopping(patience=3, mode='max', min_delta=0.0, best=nan, num_bad=0)": lambda: fb.EarlyStopping(
        3, mode="max"
    ),
}


def a_schedule(count):
    return 0.1


@pytest.mark.parametrize("text", SHOWN)
def test_it_reads_as_one_line_of_words(text):
    assert repr(SHOWN[text]()) == text


def test_a_guard_can_be_shown_anywhere():
    seen = []
    jax.jit(lambda guard: seen.append(repr(guard)) or guard, donate_argnums=0)(guard := STATE.replace().guard)
    assert seen == [repr(guard)] == ["GuardState()"]
    assert repr(jax.tree.map(lambda leaf: None, STATE.guard)) == "GuardState()"
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), STATE.guard)
    assert repr(both) == "GuardState(num_skipped=[0, 0], num_bad=[0, 0], longest=[0, 0], step=[0, 0])"


def test_a_bad_step_shows():
    beats = make_beats(guard=fb.guard.skip())
    state, _ = beats.train_step(STATE, {"x": jnp.array([jnp.nan])})
    assert repr(state.guard) == "GuardState(num_skipped=1, num_bad=1, longest=1, step=1)"
