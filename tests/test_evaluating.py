"""evaluator: every example once, in evaluation mode, without touching the state."""

import jax
import numpy as np
import optax
import pytest

import fourbeat as fb
from tests.kinds import KINDS, assert_bit_equal
from tests.oracles.steps_by_hand import accuracy

KIND = KINDS["cnn"]


@pytest.fixture(scope="module")
def beats():
    def loss_fn(model, batch):
        loss, logits = KIND.items(model, batch)
        return loss, {"logits": logits, "labels": batch["label"]}

    return fb.four_beats(loss_fn, optax.sgd(0.1), metrics=fb.metrics.Accuracy())


def test_it_uses_the_states_metric_or_the_one_it_is_given_or_the_mean_loss(beats):
    state = beats.init(KIND.make(0))
    data = fb.data.Arrays(**KIND.batch(0, 21))
    batches = data.batches(8)
    right, loss = accuracy(KIND.items, state.model, [dict(data.columns)])
    before = jax.device_get(state)
    assert fb.evaluator(beats)(state, batches) == pytest.approx({"value": right})
    own = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), right=fb.metrics.Accuracy())
    assert fb.evaluator(beats, own)(state, batches) == pytest.approx({"loss": loss, "right": right})
    assert fb.evaluator(beats)(state.replace(metrics=None), batches) == pytest.approx({"loss": loss})
    assert_bit_equal(state, before)


def test_any_iterable_of_dicts_will_do(beats):
    state = beats.init(KIND.make(0))
    plain = [KIND.batch(seed, 4) for seed in range(3)]
    right, _ = accuracy(KIND.items, state.model, plain)
    assert fb.evaluator(beats)(state, iter(plain)) == pytest.approx({"value": right})


def test_it_refuses_to_leave_examples_out_or_to_score_nothing(beats):
    state = beats.init(KIND.make(0))
    dropping = fb.data.Arrays(**KIND.batch(0, 21)).batches(8, remainder="drop")
    with pytest.raises(ValueError) as caught:
        fb.evaluator(beats)(state, dropping)
    assert str(caught.value) == (
        "evaluation would miss 5 examples: these batches drop what does not fill the last one. Use "
        "batches(..., remainder='pad'); padding counts nothing."
    )
    with pytest.raises(ValueError, match="there is nothing to evaluate: batches gave no batch at all"):
        fb.evaluator(beats)(state, [])


def test_predict_step_needs_no_labels_and_runs_in_evaluation_mode(beats):
    predicting = fb.four_beats(
        lambda model, batch: KIND.items(model, batch)[0],
        optax.sgd(0.1),
        predict=lambda model, batch: model(batch["x"]).argmax(-1),
    )
    state = predicting.init(KIND.make(0))
    images = KIND.batch(0, 6)["x"]
    step = jax.jit(predicting.predict_step)
    first, second = step(state, {"x": images}), step(state, {"x": images})
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, np.asarray(state.model(images)).argmax(-1))
