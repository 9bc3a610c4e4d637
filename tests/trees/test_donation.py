"""A state that a compiled step has taken: every use says so, and what to write instead."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb

BATCH = {"x": np.ones((2, 3), np.float32)}


def start(**options):
    beats = fb.four_beats(
        lambda model, batch: (model["w"] * batch["x"]).sum(-1),
        optax.sgd(0.1),
        metrics=fb.metrics.Mean("loss"),
        predict=lambda model, batch: model["w"] * batch["x"],
        **options,
    )
    return beats, beats.init({"w": jnp.ones(3)}), fb.compile(beats.train_step)


def text(step):
    return (
        f"this state is used up: it was given to {step}, which took its buffers (state.step is deleted). "
        "Write `state, logs = step(state, batch)`, or keep a copy of it before, state.replace()."
    )


USES = {
    "compiled": lambda beats, step, state: step(state, BATCH),
    "block": lambda beats, step, state: step(state, fb.Block.stack([BATCH, BATCH])),
    "train_step": lambda beats, step, state: beats.train_step(state, BATCH),
    "loss": lambda beats, step, state: beats.loss(state, BATCH),
    "gradient": lambda beats, step, state: beats.gradient(state, BATCH),
    "predict_step": lambda beats, step, state: beats.predict_step(state, BATCH),
    "evaluator": lambda beats, step, state: fb.evaluator(beats)(state, [BATCH]),
    "carrying evaluator": lambda beats, step, state: fb.evaluator(beats, carry=True)(state, [BATCH]),
    "predictor": lambda beats, step, state: fb.predictor(beats)(state, [BATCH]),
    "replace": lambda beats, step, state: state.replace(),
    "model": lambda beats, step, state: state.model,
    "pop_metrics": lambda beats, step, state: state.pop_metrics(),
    "int(state.step)": lambda beats, step, state: int(state.step),
    "a parameter": lambda beats, step, state: float(state.params["w"][0]),
    "no guard": lambda beats, step, state: state.guard,
    "num_updates": lambda beats, step, state: print(state.num_updates),
    "jax.tree.map": lambda beats, step, state: jax.tree.map(jnp.copy, state),
    "jax.jit": lambda beats, step, state: jax.jit(beats.train_step)(state, BATCH),
    "dataclasses": lambda beats, step, state: dataclasses.replace(state, step=0),
}


@pytest.mark.parametrize("use", USES)
def test_a_use_of_a_state_that_is_used_up_names_the_step_and_the_repair(use):
    beats, state, step = start()
    for _ in range(3):
        before = state
        state, _ = step(state, BATCH)
    with pytest.raises(fb.beats.UsedUpError) as caught:
        USES[use](beats, step, before)
    assert str(caught.value) == text("step 3")
    assert repr(before) == "TrainState(step=donated, 3 parameters in 1 arrays, with metrics)"


def test_a_state_that_the_users_own_jit_has_taken():
    beats, state, _ = start()
    jax.jit(beats.train_step, donate_argnums=0)(state, BATCH)
    for use in (lambda: state.model, lambda: beats.loss(state, BATCH)):
        with pytest.raises(fb.beats.UsedUpError) as caught:
            use()
        assert str(caught.value) == text("an earlier step")
        assert isinstance(caught.value.__cause__, RuntimeError | ValueError)


def test_a_compiled_step_inside_another_program_takes_nothing():
    _, state, step = start()

    def twice(state):
        first, _ = step(state, BATCH)
        second, _ = step(state, BATCH)
        return first.params, second.params, state.step

    first, second, number = jax.jit(twice)(state)
    assert float(first["w"][0]) == float(second["w"][0]) != 1 and int(number) == int(state.step) == 0


def test_no_other_name_becomes_a_field():
    _, state, _ = start()
    with pytest.raises(AttributeError, match="'TrainState' object has no attribute 'parms'"):
        state.parms  # noqa: B018
    assert not hasattr(state, "missing")
    assert int(copy.deepcopy(state).step) == 0


def test_an_update_with_the_old_state():
    beats, state, step = start()
    grads, out = beats.gradient(state, BATCH)
    step(state, BATCH)
    with pytest.raises(fb.beats.UsedUpError) as caught:
        beats.update(state, grads, out)
    assert str(caught.value) == text("step 1")


def test_a_state_of_long_ago_was_given_to_an_earlier_step():
    _, state, step = start()
    best = state
    for _ in range(3):
        state, _ = step(state, BATCH)
    with pytest.raises(fb.beats.UsedUpError) as caught:
        step(best, BATCH)
    assert str(caught.value) == text("an earlier step")
    state, _ = step(state.replace(), BATCH)  # nothing else is lost
    assert int(state.step) == 4


def test_another_argument_that_is_deleted_is_named():
    _, state, step = start()
    x = jnp.ones((2, 3))
    x.delete()
    with pytest.raises(fb.beats.UsedUpError) as caught:
        step(state, {"x": x})
    assert str(caught.value) == (
        "batch['x'] is deleted: a call to which it was donated took its buffer. Give each such call a copy, "
        "jnp.copy(x)."
    )


def test_other_errors_stay_as_they_are_and_a_state_keeps_no_memory_of_the_next():
    _, state, step = start()
    with pytest.raises(ValueError, match="not this"):
        fb.compile(lambda state, batch: (_ for _ in ()).throw(ValueError("not this")))(state, BATCH)
    after, _ = step(state, BATCH)
    held = [
        leaf for leaf in jax.tree.leaves(vars(state)) if isinstance(leaf, jax.Array) and not leaf.is_deleted()
    ]
    assert [leaf is after.numbers for leaf in held] == [True]  # a few numbers, to name the step


def test_a_missing_column_lists_those_there_are():
    beats, state, step = start()
    batch = {"y": np.ones((2, 3), np.float32)}
    for use in (step, beats.train_step, beats.loss, beats.predict_step, jax.jit(beats.predict_step)):
        with pytest.raises(KeyError, match="'x'") as caught:
            use(state, batch)
        assert "The batch: batch['y'] float32[2,3]." in caught.value.__notes__
    for make in (fb.evaluator, fb.predictor):
        with pytest.raises(KeyError, match="'x'") as caught:
            make(beats)(state, [batch])
        assert "The batch: batch['y'] float32[2,3]." in caught.value.__notes__


def test_whatever_takes_the_state_says_so():
    beats, state, step = start()
    step(state, BATCH)
    for use in (
        lambda: fb.sanity.check(beats, state, BATCH),
        lambda: fb.guard.locate(beats, state, BATCH),
        lambda: state.step_key(),
        lambda: fb.loop([BATCH], start=state.step, until=fb.at(epochs=1)),
    ):
        with pytest.raises(fb.beats.UsedUpError):
            use()
