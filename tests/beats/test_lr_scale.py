"""`lr_scale` scales the update before it is rounded into the parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from tests.kinds import assert_bit_equal, assert_equal_but_for_contraction

BATCH = {"x": np.ones(2, np.float32)}
MAKERS = {
    "sgd": optax.sgd,
    "adam": lambda rate: optax.adam(rate, eps=1e-3),
    "adamw": optax.adamw,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "lion": optax.lion,
    "sign": lambda rate: optax.chain(optax.scale_by_sign(), optax.scale_by_learning_rate(rate)),
    "masked": lambda rate: optax.masked(optax.sgd(rate), {"w": True}),
    "partition": lambda rate: optax.partition({"all": optax.sgd(rate)}, {"w": "all"}),
    "flat": lambda rate: optax.flatten(optax.sgd(rate)),
    "negated last": lambda rate: optax.chain(optax.sgd(-rate), optax.scale(-1.0)),
    "quotient": lambda rate: optax.stateless_with_tree_map(lambda grad, _: -grad / (1 / rate)),
    "accumulating": lambda rate: optax.MultiSteps(optax.sgd(rate), every_k_schedule=1),
}


def trained(make, rate, scale, dtype, num_steps=20):
    beats = fb.four_beats(lambda model, batch: model["w"] * batch["x"], make(rate))
    state = beats.init({"w": jnp.ones((), dtype)}).replace(lr_scale=scale)
    for _ in range(num_steps):
        state, _ = jax.jit(beats.train_step)(state, BATCH)
    return float(state.params["w"])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("rate", "scale", "dtype"), [(1e-3, 10.0, jnp.bfloat16), (1e-8, 1e6, jnp.float32)], ids=["bf16", "f32"]
)
def test_a_small_rate_scaled_up_is_the_large_rate(name, rate, scale, dtype):
    scaled, whole = (trained(MAKERS[name], *args, dtype) for args in ((rate, scale), (rate * scale, 1.0)))
    assert whole < 0.95
    assert np.isclose(scaled, whole, atol=0.02 if dtype == jnp.bfloat16 else 1e-5)


def test_a_scale_of_0_moves_nothing():
    assert trained(optax.adam, 1e-2, 0.0, jnp.float32) == 1.0
    assert trained(MAKERS["quotient"], 1e-2, 0.0, jnp.float32) == 1.0


def batch_of(seed):
    values = np.random.RandomState(seed).standard_normal((8, 20)).astype(np.float32)
    return {"x": values[:, :4], "y": values[:, 4:]}


def equalized(model, batch):
    """A layer with an equalized learning rate: its gradient ends in a product with a constant."""
    return ((batch["x"] @ (model["w"] * 0.3) - batch["y"]) ** 2).mean(-1)


def trained_by_both(tx):
    """The parameters of a loop by hand, and ours."""

    @jax.jit
    def by_hand(params, opt_state, batch):
        grads = jax.grad(lambda params: equalized(params, batch).mean())(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    beats = fb.four_beats(equalized, tx)
    params = {"w": jnp.zeros((4, 16))}  # from 0 the first updates show all their bits
    step, state, opt_state = fb.compile(beats.train_step), beats.init(params), tx.init(params)
    for batch in map(batch_of, range(4)):
        params, opt_state = by_hand(params, opt_state, batch)
        state, _ = step(state, batch)
    return params, state.params


@pytest.mark.parametrize(
    "rate",
    [
        0.1,
        optax.linear_schedule(0.1, 0.0, 10),
        optax.cosine_decay_schedule(0.1, 10),
        lambda count: jnp.asarray(0.1, jnp.bfloat16) / (1 + count),
    ],
    ids=["constant", "linear", "cosine", "bfloat16"],
)
def test_a_scale_of_1_leaves_every_bit_where_the_gradient_has_a_constant_factor(rate):
    assert_bit_equal(*trained_by_both(optax.sgd(rate)))


def test_weight_decay_and_a_constant_factor_are_a_sum_of_two_products():
    tx = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))
    assert_equal_but_for_contraction(*trained_by_both(tx))
