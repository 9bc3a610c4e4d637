"""What a forward pass writes into a parameter is the base of its update, as `nnx.Optimizer` has it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from tests.kinds import assert_bit_equal, assert_equal_but_for_contraction


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.norm = nnx.Linear(4, 4, rngs=rngs), nnx.LayerNorm(4, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.norm(self.linear(x)))


class Remat(nnx.Module):
    def __init__(self, rngs):
        self.block, self.out = Block(rngs), nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.remat(lambda block, x: block(x))(self.block, x))


class RematMethod(Block):
    @nnx.remat
    def __call__(self, x):
        return Block.__call__(self, x)[:, :3]


class JitMethod(Block):
    @nnx.jit
    def __call__(self, x):
        return Block.__call__(self, x)[:, :3]


class Weight(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.WeightNorm(nnx.Linear(4, 3, rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.norm(x)


class Spectral(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.SpectralNorm(nnx.Linear(4, 3, rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.norm(x, update_stats=True)


class Clipped(nnx.Module):
    """A user's own: weights are kept small where they are read."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        self.linear.kernel[...] = jnp.clip(self.linear.kernel[...], -0.2, 0.2)
        return self.linear(x)


MODELS = [Remat, RematMethod, JitMethod, Weight, Spectral, Clipped]


def batch_of(seed):
    random = np.random.RandomState(seed)
    return {
        "x": random.standard_normal((8, 4)).astype(np.float32),
        "y": random.standard_normal((8, 3)).astype(np.float32),
    }


def loss_fn(model, batch):
    return ((model(batch["x"]) - batch["y"]) ** 2).mean(-1)


def by_hand(make, tx, num_steps):
    model = make(nnx.Rngs(0))
    model.train()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, batch):
        _, grads = nnx.value_and_grad(lambda model: loss_fn(model, batch).mean())(model)
        optimizer.update(model, grads)

    for seed in range(num_steps):
        step(model, optimizer, batch_of(seed))
    return nnx.to_pure_dict(nnx.state(model, nnx.Param)), model


OPTIMIZERS = {"sgd": lambda: optax.sgd(0.1), "adamw": lambda: optax.adamw(1e-2)}


@pytest.mark.parametrize(("make", "optimizer"), [*((make, "sgd") for make in MODELS), (Clipped, "adamw")])
def test_bit_equal_to_the_loop_by_hand(make, optimizer):
    params, model = by_hand(make, OPTIMIZERS[optimizer](), 4)
    beats = fb.four_beats(loss_fn, OPTIMIZERS[optimizer]())
    state, step = beats.init(make(nnx.Rngs(0))), fb.compile(beats.train_step, on_recompile="raise")
    for seed in range(4):
        state, _ = step(state, batch_of(seed))
    # WeightNorm writes a product: the new parameter is a sum of two
    (assert_equal_but_for_contraction if make is Weight else assert_bit_equal)(state.params, params)
    scores = fb.evaluator(beats)(state, [batch_of(9)])
    model.eval()
    assert np.isclose(scores["loss"], loss_fn(model, batch_of(9)).mean(), rtol=1e-5)


@pytest.mark.parametrize("rolled", [True, False])
def test_microbatches_go_on_from_what_the_one_before_wrote(rolled):
    beats = fb.four_beats(loss_fn, optax.sgd(0.1), accumulate=2, rolled=rolled)
    state, _ = jax.jit(beats.train_step)(beats.init(Spectral(nnx.Rngs(0))), batch_of(0))
    model = Spectral(nnx.Rngs(0))
    model.train()
    total = None
    for examples in (slice(0, 4), slice(4, 8)):
        part = {name: column[examples] for name, column in batch_of(0).items()}
        grads = nnx.grad(lambda model, part=part: loss_fn(model, part).mean())(model)
        total = grads if total is None else jax.tree.map(jnp.add, total, grads)
    for param, grad, ours in zip(
        *map(jax.tree.leaves, (nnx.state(model, nnx.Param), total, state.params)), strict=True
    ):
        np.testing.assert_allclose(ours, param - 0.1 * grad / 2, rtol=1e-5, atol=1e-6)


def test_a_guard_keeps_what_was_there_before_the_write_and_a_batch_of_no_weight_too():
    beats = fb.four_beats(loss_fn, optax.sgd(0.1), guard=fb.guard.skip())
    state = beats.init(Clipped(nnx.Rngs(0)))
    assert np.abs(state.params["linear"]["kernel"]).max() > 0.2
    bad = {**batch_of(0), "x": np.full((8, 4), np.nan, np.float32)}
    for batch in (bad, {**batch_of(0), "weight": np.zeros(8, np.float32)}):
        after, _ = jax.jit(beats.train_step)(state, batch)
        assert_bit_equal(after.params, state.params)


def test_in_half_precision_the_float32_master_is_the_base():
    beats = fb.four_beats(loss_fn, optax.sgd(1e-4), precision="bfloat16")
    state = beats.init(Remat(nnx.Rngs(0)))
    after, _ = jax.jit(beats.train_step)(state, batch_of(0))
    grads, _ = jax.jit(beats.gradient)(state, batch_of(0))
    expected = jax.tree.map(lambda param, grad: param - 1e-4 * grad, state.params, grads)
    for ours, by_hand in zip(jax.tree.leaves(after.params), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, by_hand, rtol=1e-6, atol=1e-7)
