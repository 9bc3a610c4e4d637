"""A score of nothing, or of too much, says so; a NaN that comes from the model is no such thing."""

import math
import warnings

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.metrics import CapacityWarning, NothingSeenWarning

LOOK = "Look at the column 'weight' of the batches, and at the filter or the split that they come from."
BATCHES = [{"x": np.ones(2, np.float32), "weight": np.zeros(2, np.float32)}] * 3
TEXTS = {
    "the default": (
        None,
        BATCHES,
        f"metric 'loss' (Mean('loss')) has seen no example of a weight above 0, so its score is NaN. {LOOK}",
    ),
    "one": (
        fb.metrics.Mean("x"),
        BATCHES,
        f"the metric Mean('x') has seen no example of a weight above 0, so its score is NaN. {LOOK}",
    ),
    "in a collection, beside one that is 0": (
        fb.metrics.Collection(
            matrix=fb.metrics.ConfusionMatrix(num_classes=2),
            inner=fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy()),
        ),
        fb.data.Arrays(x=np.ones(4, np.float32), weight=np.zeros(4, np.float32)).batches(2),
        "metric 'inner.loss' (Mean('loss')), metric 'inner.accuracy' (Accuracy()) have seen no example of a "
        f"weight above 0, so their score is NaN. {LOOK}",
    ),
    "some weight": (None, [*BATCHES, {"x": np.ones(2), "weight": np.array([0, 1.0])}], None),
    "a model that diverged": (None, [{"x": np.full(2, np.nan)}], None),
    "a class that is not there": (
        fb.metrics.Precision(num_classes=2, average=None),
        [{"x": np.ones(2)}],
        None,
    ),
}


@pytest.fixture(scope="module")
def trained():
    def loss_fn(model, batch):
        logits = batch["x"][:, None] * jnp.array([1.0, 0.0])
        return batch["x"] * model["w"], {"logits": logits, "labels": jnp.zeros(len(logits), jnp.int32)}

    beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    return beats, beats.init({"w": jnp.ones(())})


@pytest.mark.parametrize("kind", TEXTS)
def test_a_score_of_nothing_is_said(kind, trained):
    metrics, batches, text = TEXTS[kind]
    beats, state = trained
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        scores = fb.evaluator(beats, metrics)(state, batches)
    expected = [] if text is None else [(NothingSeenWarning, text, __file__)]
    assert [(each.category, str(each.message), each.filename) for each in told] == expected
    if kind == "some weight":
        assert scores == {"loss": 1.0}
    elif kind != "a class that is not there":
        assert math.isnan(scores["inner"]["loss"] if "inner" in scores else next(iter(scores.values())))


def test_training_on_nothing_is_said_by_pop_metrics(trained):
    """The reader of the scores warns, in training as in evaluation."""
    beats = fb.four_beats(
        lambda model, batch: batch["x"] * model["w"], optax.sgd(0.1), metrics=fb.metrics.Mean("loss")
    )
    state = beats.init({"w": jnp.ones(())})
    state, _ = beats.train_step(state, BATCHES[0])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        scores, state = state.pop_metrics()
    assert math.isnan(scores["value"])
    assert [(each.category, str(each.message), each.filename) for each in told] == [
        (
            NothingSeenWarning,
            "the metric Mean('loss') has seen no example of a weight above 0, so its score is NaN. There was "
            "no step since the metrics were started anew, or each step was skipped by a guard, or the column "
            "'weight' of its batch is 0.",
            __file__,
        )
    ]
    state, _ = beats.train_step(state, {"x": np.ones(2, np.float32)})
    assert state.pop_metrics()[0] == {"value": 1.0}


def test_more_examples_than_a_metric_keeps_are_said(trained):
    """Examples of weight 0 take no place; with one too many there is no score."""
    beats, state = trained
    metric = fb.metrics.Spearman(capacity=4, predictions="x", targets="y")
    columns = {"x": np.arange(3, dtype=np.float32), "y": np.float32([1, 3, 2])}
    batches = [{**columns, "weight": np.float32([1, 0, 1])}, {**columns, "weight": np.float32([0, 1, 1])}]
    evaluate = fb.evaluator(beats, fb.metrics.Collection(rank=metric))
    assert evaluate(state, batches)["rank"] == pytest.approx(
        1 / 3
    )  # scipy.stats.spearmanr([0, 2, 1, 2], [1, 2, 3, 2])
    with pytest.warns(CapacityWarning) as told:
        scores = evaluate(state, [*batches, *batches])
    assert math.isnan(scores["rank"])
    assert [(str(each.message), each.filename) for each in told] == [
        (
            "metric 'rank' (Spearman(capacity=4, predictions='x', targets='y')) has seen 8 examples of a "
            "weight above 0, more than the 4 that it keeps, so its score is NaN. Make it with capacity=8 or "
            "more; AUROC and AveragePrecision without capacity count any number of examples, in bins.",
            __file__,
        )
    ]
