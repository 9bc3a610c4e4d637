"""What a notebook shows of each thing: one short line of words, whatever the thing has been through."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import treescope

import fourbeat as fb

CONFUSED = {"logits": jnp.eye(3)[jnp.array([0, 1, 2, 0])], "labels": jnp.zeros(4, jnp.int32)}
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
    "loop(step=0, until=at(steps=3) | stop_signal(SIGINT, SIGTERM, SIGHUP), steps_per_call=1)": lambda: (
        fb.loop(DATA.batches(4), until=STOP)
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


# treescope 0.1.10 reads every public name of NumPy, and NumPy 2.5 deprecates `numpy.char.array`.
@pytest.mark.filterwarnings("ignore:The chararray class is deprecated:DeprecationWarning")
def test_under_treescope_states_and_collections_are_trees_and_the_rest_lines():
    seen = []
    beats = make_beats(metrics=METRICS)
    state = beats.init({"w": jnp.ones(())})
    new_state, _ = jax.jit(beats.train_step, donate_argnums=0)(state, {"x": jnp.ones(4)} | CONFUSED)
    lines = treescope.render_to_text(new_state).splitlines()
    assert lines[0] == "TrainState(  # step=1, 1 parameters in 1 arrays, with metrics"
    assert "  params={'w': <jax.Array(0.8, dtype=float32)>}," in lines
    assert [line for line in lines if "ema" in line or "static" in line] == []  # unused, or of no interest
    assert treescope.render_to_text(new_state.metrics).splitlines() == [
        "Collection(",
        "  loss=Mean('loss')  # 1.0000 so far,",
        "  confusion=ConfusionMatrix(num_classes=3)  # 3 x 3 values so far,",
        ")",
    ]
    assert treescope.render_to_text(beats) == repr(beats)
    assert treescope.render_to_text(state).startswith("TrainState(  # step=donated, 1 parameters in 1 arrays")
    assert treescope.render_to_text(state.metrics["loss"]) == "Mean('loss')"
    jax.jit(lambda metric: seen.append(treescope.render_to_text(metric)) or metric)(METRICS["loss"])
    assert seen == ["Mean('loss')"]
