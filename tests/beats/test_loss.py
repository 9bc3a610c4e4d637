"""The weight contract, and the conventions of a loss function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fourbeat as fb

MODEL = {"w": jnp.array([1.0, -2.0])}
BATCH = {
    "x": np.arange(8, dtype=np.float32).reshape(4, 2),
    "tokens": np.arange(12, dtype=np.float32).reshape(4, 3) / 10,
}


def per_example(model, batch):
    return (batch["x"] @ model["w"] - 1) ** 2


def per_token(model, batch):
    return (batch["tokens"] * model["w"][0] - model["w"][1]) ** 2


def scalar(model, batch):
    return per_example(model, batch).mean()


def bare(loss):
    return lambda model, batch: loss(model, batch)


def with_aux(loss):
    return lambda model, batch: (loss(model, batch), {"seen": batch["x"]})


def with_key(loss):
    return lambda model, batch, key: loss(model, batch)


FORMS = {"bare": bare, "with aux": with_aux, "with key": with_key}
LOSSES = {"example": per_example, "token": per_token, "scalar": scalar}
WEIGHTS = {
    "none": None,
    "examples": np.array([1.0, 0.5, 0.0, 2.0], np.float32),
    "tokens": np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3),
    "nothing": np.zeros(4, np.float32),
}


def by_hand(loss, batch):
    """Loss, weight and gradient as NumPy and plain JAX give them."""
    weight = batch.get("weight")

    def mean(model):
        items = loss(model, batch)
        if weight is None:
            return items.mean()
        w = np.broadcast_to(weight.reshape(weight.shape + (1,) * (items.ndim - weight.ndim)), items.shape)
        return (items * w).sum() / max(w.sum(), 1e-30)

    items = np.asarray(loss(MODEL, batch))
    if weight is None:
        total = 4 if items.ndim == 0 else items.size
    else:
        total = np.broadcast_to(
            weight.reshape(weight.shape + (1,) * (items.ndim - weight.ndim)), items.shape
        ).sum()
    return mean(MODEL), total, jax.grad(mean)(MODEL)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("loss", "weight"),
    [(loss, "none") for loss in LOSSES]
    + [("example", "examples"), ("token", "examples"), ("token", "tokens")]
    + [("example", "nothing"), ("token", "nothing")],
)
def test_every_form_of_loss_reduces_by_the_contract(form, loss, weight):
    batch = BATCH if WEIGHTS[weight] is None else {**BATCH, "weight": WEIGHTS[weight]}
    beats = fb.four_beats(FORMS[form](LOSSES[loss]), optax.sgd(0.1))
    state = beats.init(MODEL)
    grads, out = beats.gradient(state, batch)
    expected_loss, expected_weight, expected_grads = by_hand(LOSSES[loss], batch)
    np.testing.assert_allclose(out.loss, expected_loss, rtol=1e-6)
    np.testing.assert_allclose(out.weight, expected_weight, rtol=1e-6)
    np.testing.assert_allclose(grads["w"], expected_grads["w"], rtol=1e-5)
    loss_value, aux = beats.loss(state, batch)
    assert loss_value == out.loss
    assert (aux is not None) == (form == "with aux")


def test_an_item_of_weight_zero_brings_no_nan_along():
    batch = {**BATCH, "x": BATCH["x"].copy(), "weight": np.array([1, 1, 1, 0], np.float32)}
    clean = fb.four_beats(per_example, optax.sgd(0.1))
    expected = clean.gradient(clean.init(MODEL), batch)
    batch["x"][3] = np.inf
    _, out = clean.gradient(clean.init(MODEL), batch)
    assert out.loss == expected[1].loss


@functools.cache
def compiled_gradient():
    beats = fb.four_beats(per_example, optax.sgd(0.1))
    return beats, jax.jit(beats.gradient)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.lists(st.floats(0, 10, width=32), min_size=4, max_size=4), st.integers(1, 6))
def test_padding_examples_of_weight_zero_change_nothing(weight, num_padding):
    beats, gradient = compiled_gradient()
    state = beats.init(MODEL)
    batch = {"x": BATCH["x"], "weight": np.array(weight, np.float32)}
    padded = {
        "x": np.concatenate([batch["x"], batch["x"][:1].repeat(num_padding, 0)]),
        "weight": np.concatenate([batch["weight"], np.zeros(num_padding, np.float32)]),
    }
    (grads, out), (padded_grads, padded_out) = gradient(state, batch), gradient(state, padded)
    np.testing.assert_allclose(padded_out.loss, out.loss, rtol=1e-6)
    np.testing.assert_allclose(padded_out.weight, out.weight, rtol=1e-6)
    np.testing.assert_allclose(padded_grads["w"], grads["w"], rtol=1e-5, atol=1e-6)


def test_the_key_of_a_step_follows_from_key_and_step_and_is_none_in_evaluation():
    keys = []

    def loss_fn(model, batch, key):
        keys.append(key)
        noise = 0 if key is None else jax.random.normal(key, batch["x"].shape)
        return per_example(model, {"x": batch["x"] + noise})

    beats = fb.four_beats(loss_fn, optax.sgd(0.0))
    state = beats.init(MODEL, key=7)
    state, first = beats.train_step(state, BATCH)
    state, second = beats.train_step(state, BATCH)
    for step, key in enumerate(keys):
        expected = jax.random.fold_in(jax.random.key(7), step)
        assert (jax.random.key_data(key) == jax.random.key_data(expected)).all()
    assert first["loss"] != second["loss"]
    typed = beats.init(MODEL, key=jax.random.key(7, impl="rbg"))
    raw = beats.init(MODEL, key=jax.random.PRNGKey(7))
    assert (
        beats.train_step(raw, BATCH)[1]["loss"] == first["loss"] != beats.train_step(typed, BATCH)[1]["loss"]
    )
    keys.clear()
    beats.eval_step(state, BATCH, fb.metrics.Mean("loss"))
    assert keys == [None]


def test_a_factor_of_the_loss_weighs_the_loss_alone_and_divides_by_the_number_of_examples():
    """As Keras's class_weight does: the gradient is sum(weight * gradient) / n; metrics are not weighted."""
    factor, labels = np.array([1.0, 5.0], np.float32), np.array([0, 1, 1, 0])
    x, y = BATCH["x"], np.array([1, -1, 1, 1], np.float32)

    def loss_fn(model, batch):
        error = batch["x"] @ model["w"] - batch["y"]
        loss = error**2
        if "loss_weight" in batch:
            loss = loss * batch["loss_weight"]
        return loss, {"error": error}

    metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), error=fb.metrics.Mean("error"))
    w = np.asarray(MODEL["w"])
    error = x @ w - y
    by_hand = (2 * (factor[labels] * error)[:, None] * x).sum(0) / 4
    for accumulate in (1, 2):
        beats = fb.four_beats(loss_fn, optax.sgd(0.01), metrics=metrics, accumulate=accumulate)
        batch = {"x": x, "y": y, "loss_weight": factor[labels]}
        state, logs = jax.jit(beats.train_step)(beats.init(MODEL), batch)
        np.testing.assert_allclose(state.params["w"], w - 0.01 * by_hand, rtol=1e-5)
        np.testing.assert_allclose(logs["loss"], (factor[labels] * error**2).mean(), rtol=1e-6)
        seen, _ = state.pop_metrics()
        np.testing.assert_allclose(seen["error"], error.mean(), rtol=1e-6)
        scores = fb.evaluator(beats)(beats.init(MODEL), [{"x": x, "y": y}])
        np.testing.assert_allclose([*scores.values()], [(error**2).mean(), error.mean()], rtol=1e-6)


def call(loss_fn, batch=BATCH, **options):
    beats = fb.four_beats(loss_fn, optax.sgd(0.1), **options)
    beats.train_step(beats.init(MODEL), batch)


ERRORS = {
    "scalar beside a weight": (
        lambda: call(scalar, {**BATCH, "weight": np.ones(4, np.float32)}),
        "the loss is a scalar, but the batch has a weight column of shape (4,): a mean taken by "
        "loss_fn cannot be weighted any more. Return one loss an example: drop the .mean().",
    ),
    "shapes": (
        lambda: call(per_example, {**BATCH, "weight": np.ones((4, 3), np.float32)}),
        "batch['weight'] has shape (4, 3) and the loss (4,). The weight needs the shape of the loss or its "
        "leading dimensions: (4,).",
    ),
    "loss in aux": (
        lambda: call(lambda model, batch: (per_example(model, batch), {"loss": 1})),
        "aux has ['loss'], names that the step itself gives to the metrics. Rename it.",
    ),
    "no loss": (
        lambda: call(lambda model, batch: None),
        "loss_fn returned None. It must return `loss`, an array, or `(loss, aux)`.",
    ),
    "not a function": (
        lambda: call(0.5),
        "loss_fn is 0.5. Pass a function loss_fn(model, batch) that returns the loss, or the loss and a dict "
        "of what the metrics need.",
    ),
    "not a transformation": (
        lambda: fb.four_beats(per_example, 0.1),
        "tx is 0.1, not an optax transformation. Pass one, such as optax.adamw(1e-3), without init.",
    ),
    "no predict": (
        lambda: fb.four_beats(per_example, optax.sgd(0.1)).predict_step(None, BATCH),
        "predict_step needs to know what to compute. Pass four_beats(..., predict=lambda model, batch: "
        "model(batch['image'])).",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_texts(case):
    call, text = ERRORS[case]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value) == text


def test_a_weight_that_is_a_text_is_named():
    beats = fb.four_beats(lambda model, batch: model["w"] * batch["x"], optax.sgd(0.1))
    state = beats.init({"w": jnp.ones(())})
    with pytest.raises(TypeError) as caught:
        beats.train_step(state, {"x": np.ones(4, np.float32), "weight": "abc"})
    assert str(caught.value) == (
        "batch['weight'] is 'abc', a text. Give a number an example, such as np.ones(batch_size, np.float32)."
    )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_weight_that_is_no_array_is_named(accumulate):
    beats = fb.four_beats(lambda model, batch: model["w"] * batch["x"], optax.sgd(0.1), accumulate=accumulate)
    state = beats.init({"w": jnp.ones(())})
    with pytest.raises(TypeError) as caught:
        beats.train_step(state, {"x": np.ones(4, np.float32), "weight": [1.0] * 4})
    assert str(caught.value) == (
        "batch['weight'] is a list, which is no array. Use np.asarray(batch['weight'])."
    )
