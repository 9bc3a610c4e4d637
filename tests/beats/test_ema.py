"""Averaged parameters: the debiased, warmed-up average, against one written by hand in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat import guard
from fourbeat.beats.ema import updated_ema
from tests.kinds import KINDS, assert_bit_equal


def by_hand(values, decay):
    """Each average as a weighted sum of all values, with its weights."""
    weights, averages = np.zeros(0), []
    for n, _ in enumerate(values):
        rate = max((1 - decay) / (1 - decay ** (n + 1)), 9 / (10 + n))
        weights = np.append(weights * (1 - rate), rate)
        averages.append(weights @ np.asarray(values[: n + 1], np.float64))
    return averages, weights


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999, 0.99999])
def test_the_average_is_the_one_written_by_hand(decay):
    values = np.random.RandomState(0).standard_normal(60).astype(np.float32)
    average, seen = jnp.float32(77.0), []
    step = jax.jit(updated_ema, static_argnums=0)
    for n, value in enumerate(values):
        average = step(decay, average, value, jnp.int32(n))
        seen.append(float(average))
    expected, weights = by_hand(values, decay)
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-9)  # what was there before training weighs nothing


def test_the_rate_becomes_that_of_the_decay():
    moved = updated_ema(0.9, jnp.float32(0), jnp.float32(1), jnp.int32(1_000_000))
    np.testing.assert_allclose(moved, 0.1, rtol=1e-6)


def make(**options):
    kind = KINDS["cnn"]
    beats = fb.four_beats(lambda model, batch: kind.items(model, batch)[0], optax.adam(1e-2), **options)
    return beats, beats.init(kind.make(0)), fb.compile(beats.train_step, on_recompile="raise")


def test_a_run_averages_its_applied_updates_and_either_is_evaluated():
    kind = KINDS["cnn"]
    beats, state, step = make(ema=0.9, guard=guard.skip())
    assert_bit_equal(state.ema, state.params)
    biases = []
    for seed in range(5):
        batch = kind.batch(seed, 8)
        if seed == 2:
            batch = {**batch, "x": batch["x"] * np.float32(np.nan)}
        state, _ = step(state, batch)
        if seed != 2:
            biases.append(np.asarray(state.params["head"]["bias"]))
    expected = [by_hand([bias[i] for bias in biases], 0.9)[0][-1] for i in range(5)]
    np.testing.assert_allclose(state.ema["head"]["bias"], expected, rtol=1e-5)
    live = state.ema_model
    assert_bit_equal(live.head.bias[...], state.ema["head"]["bias"])
    assert_bit_equal(live.norm.mean[...], state.rest["norm"]["mean"])
    evaluate = fb.evaluator(beats)
    averaged = state.replace(params=state.ema)
    batches = [kind.batch(9, 8)]
    assert evaluate(state, batches) != evaluate(averaged, batches)
    np.testing.assert_allclose(
        evaluate(averaged, batches)["loss"], kind.items(live, batches[0])[0].mean(), rtol=1e-5
    )


def test_no_average_no_model():
    _, state, _ = make()
    assert state.ema is None
    with pytest.raises(ValueError) as caught:
        _ = state.ema_model
    assert str(caught.value) == "this state has no averaged parameters. Pass four_beats(..., ema=0.999)."


@pytest.mark.parametrize("ema", [0.0, 1.0, -1.0, 1, "0.9"])
def test_what_is_no_decay_is_refused(ema):
    with pytest.raises(ValueError) as caught:
        make(ema=ema)
    assert str(caught.value) == (
        f"ema is {ema!r}. It is the decay of an average of the parameters, above 0 and below 1, such as "
        "0.999; or None."
    )
