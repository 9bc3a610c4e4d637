"""The learning rate range test beside the same test by hand, and its suggestion."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.tuning.rate_rules import RULES
from tests.kinds import assert_bit_equal

RANDOM = np.random.RandomState(0)
X = RANDOM.standard_normal((64, 4)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5, 3.0]) > 0).astype(np.float32)
BATCHES = [{"x": X[i::4], "y": Y[i::4]} for i in range(4)]
RATES = np.geomspace(1e-4, 1e2, 13)


def loss_fn(model, batch, *, scale=1.0):
    return scale * optax.sigmoid_binary_cross_entropy(batch["x"] @ model["w"], batch["y"])


def model():
    return {"w": jnp.full(4, 0.1)}


def decaying(rate):
    return optax.adamw(rate, weight_decay=0.1)


def injected(rate):
    return optax.chain(optax.clip(1.0), optax.inject_hyperparams(optax.sgd)(learning_rate=rate, momentum=0.9))


falling = optax.linear_schedule(0.5, 0.1, 5)
KINDS = {  # the optimizer of the beats, that with another rate, and what the beats and the test are told
    "given": (decaying(0.02), decaying, {}, {"learning_rate": 0.02}),
    "injected": (injected(0.3), injected, {}, {}),
    "scheduled": (optax.sgd(falling), optax.sgd, {"schedule": falling}, {}),
}  # fmt: skip


def by_hand(make):
    """The loss after each update, whose rate grows: an optimizer of its own for each."""
    params = model()
    state, losses = make(RATES[0]).init(params), []
    mean = lambda params, batch: loss_fn(params, batch).mean()
    for i, rate in enumerate([*RATES, RATES[-1]]):
        loss, grads = jax.value_and_grad(mean)(params, BATCHES[i % 4])
        losses.append(float(loss))
        if hasattr(state[-1], "hyperparams"):
            rates = {**state[-1].hyperparams, "learning_rate": jnp.float32(rate)}
            state = (*state[:-1], state[-1]._replace(hyperparams=rates))
        updates, state = make(rate).update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return losses[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_each_rate_trains_as_an_optimizer_made_with_it(kind):
    tx, make, options, given = KINDS[kind]
    beats = fb.four_beats(loss_fn, tx, **options)
    state = beats.init(model()).replace(lr_scale=0.5)
    before = jax.tree.map(jnp.copy, state)
    found = fb.tuning.lr_range_test(
        beats, state, BATCHES, low=1e-4, high=1e2, num_steps=13, diverged=1e9, **given
    )
    assert_bit_equal(state, before)
    assert not found.is_relative
    np.testing.assert_allclose(found.rates, RATES, rtol=1e-5)
    np.testing.assert_allclose(found.losses, by_hand(make), rtol=1e-4, atol=1e-6)
    assert max(found.losses) > 1.5 * min(found.losses)


def test_rates_that_nothing_tells_are_multiples_and_the_suggestion_trains(tmp_path):
    beats = fb.four_beats(loss_fn, optax.sgd(0.01))
    state = beats.init(model())
    found = fb.tuning.lr_range_test(beats, state, BATCHES)
    assert found.is_relative and found.suggestion is not None
    told = fb.tuning.lr_range_test(beats, state, BATCHES, learning_rate=0.01, low=1e-7, high=1e3)
    assert told.suggestion == pytest.approx(0.01 * found.suggestion, rel=1e-4)
    found.plot().savefig(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 5_000
    step, first = jax.jit(beats.train_step), float(beats.loss(state, BATCHES[0])[0])
    state = state.replace(lr_scale=found.suggestion)
    for tick in fb.loop(BATCHES, until=fb.at(steps=100)):
        state, logs = step(state, tick.batch)
    assert float(logs["loss"]) < 0.6 * first


def test_a_loss_that_is_not_finite_ends_the_test_and_is_left_out():
    def exploding(model, batch):
        return jnp.exp(model["w"][0] ** 2 * batch["x"][:, 0] ** 2) - 1.0

    beats = fb.four_beats(exploding, optax.sgd(1.0), logs=(), accumulate=2, guard=fb.guard.skip())
    state = beats.init({"w": jnp.ones(4)})
    found = fb.tuning.lr_range_test(beats, state, BATCHES, learning_rate=1.0, diverged=1e30)
    assert np.isfinite(found.losses).all() and len(found.rates) == len(found.losses) < 100
    assert (
        found.ended == f"at a loss of inf after the rate {np.geomspace(1e-7, 10, 100)[len(found.rates)]:.3g}"
    )
    broken = state.replace(params={"w": jnp.full(4, jnp.nan)})
    nothing = fb.tuning.lr_range_test(beats, broken, BATCHES)
    assert (nothing.suggestion, len(nothing.rates)) == (None, 0)
    assert repr(nothing) == (
        "no suggestion: two thirds of the way, in the logarithm of the rate, down from where the smoothed "
        "loss begins to fall (after the 'valley' of fastai's learning rate finder). The test ended "
        "at a loss of nan before any update."
    )
    nothing.plot()


def test_a_warm_up_from_zero_costs_one_point_and_inputs_reach_the_loss():
    warm_up = optax.linear_schedule(0.0, 1.0, 10)
    beats = fb.four_beats(loss_fn, optax.sgd(warm_up), schedule=warm_up)
    found = fb.tuning.lr_range_test(beats, beats.init(model()), BATCHES, num_steps=10, high=1e-3, scale=2.0)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-7, 1e-3, 10)[1:], rtol=1e-5)
    expected = 2 * float(beats.loss(beats.init(model()), BATCHES[2])[0])
    assert found.losses[0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_finds_a_rate_on_the_slope_of_a_valley(rule):
    place = np.linspace(0, 1, 100)
    losses = 2 - 1.5 / (1 + np.exp(-(place - 0.5) * 25)) + np.exp((place - 0.9) * 60)
    found = RULES[rule].place(losses + 0.001 * RANDOM.standard_normal(100))
    assert found is not None and 0.4 < place[found] < 0.7
    assert RULES[rule].place(np.linspace(1, 2, 20)) is None


REFUSED = {
    "a hidden schedule": (
        {"tx": optax.adam(falling)}, {"learning_rate": 0.1},
        "cannot set the rate: the optimizer has a schedule, and the beats do not know it. Give four_beats "
        "the schedule that the optimizer was given, schedule=; or test with a plain rate, such as "
        "optax.adamw(1e-3).",
    ),
    "an injected schedule": (
        {"tx": optax.inject_hyperparams(optax.adam)(learning_rate=falling)}, {},
        "cannot set the rate: the optimizer has a schedule, and the beats do not know it. Give four_beats "
        "the schedule that the optimizer was given, schedule=; or test with a plain rate, such as "
        "optax.adamw(1e-3).",
    ),
    "rule": ({}, {"rule": "lowest"}, "rule is 'lowest'. Use 'valley' or 'steepest'."),
    "range": (
        {}, {"low": 1.0, "high": 0.1},
        "low is 1.0, high 0.1 and num_steps 100. Rates grow from low, above 0, to a larger high, in at least "
        "5 steps.",
    ),
    "rate": (
        {}, {"learning_rate": 0.0},
        "learning_rate is 0.0. Give the rate that the optimizer was made with, above 0.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    options, given, text = REFUSED[case]
    beats = fb.four_beats(loss_fn, **{"tx": optax.sgd(0.1), **options})
    with pytest.raises(ValueError) as caught:
        fb.tuning.lr_range_test(beats, beats.init(model()), BATCHES, **given)
    assert str(caught.value) == text
