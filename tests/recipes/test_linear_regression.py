"""The linear regression recipe, against the explicit update written by hand."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fourbeat as fb
from fourbeat.recipes import linear_regression
from tests.kinds import assert_bit_equal
from tests.oracles import linear_regression_by_hand as by_hand


def test_it_is_the_fit_written_by_hand(tmp_path, capsys):
    config = linear_regression.LinearRegression(out=tmp_path)
    state = linear_regression.train(config)
    points = linear_regression.make_points(config)
    x, y = (jnp.asarray(points.columns[name]) for name in "xy")
    expected = by_hand.train(by_hand.initial(), x, y, learning_rate=0.01, num_steps=1_000)
    np.testing.assert_allclose(state.params["weight"], expected.weight, rtol=1e-5)
    np.testing.assert_allclose(state.params["bias"], expected.bias, rtol=1e-5)
    assert abs(float(state.params["weight"]) - 2) < 0.1
    assert abs(float(state.params["bias"]) + 1) < 0.1
    printed = capsys.readouterr().out
    assert printed.startswith("fit   weight +1.9")
    assert "1000 steps in " in printed
    losses = [
        json.loads(line)["train_loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert len(losses) == 10
    assert losses == sorted(losses, reverse=True)
    assert (tmp_path / "fit.png").stat().st_size > 1_000


def test_unfused_it_is_bit_equal_to_the_explicit_update():
    points = linear_regression.make_points(linear_regression.LinearRegression())
    beats = fb.four_beats(linear_regression.loss_fn, optax.sgd(0.01))
    state = beats.init(linear_regression.Params(jnp.zeros(()), jnp.zeros(())))
    step = fb.compile(beats.train_step)
    for tick in fb.loop(points.batches(128), until=fb.at(steps=50)):
        state, _ = step(state, tick.batch)
    x, y = (jnp.asarray(points.columns[name]) for name in "xy")
    expected = by_hand.train(by_hand.initial(), x, y, learning_rate=0.01, num_steps=50)
    assert isinstance(state.model, linear_regression.Params)
    assert_bit_equal(jax.tree.leaves(state.model), list(expected))
