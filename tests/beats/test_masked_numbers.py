"""A NaN or Inf where the weight is 0 reaches no gradient; one that counts is not hidden."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb

BAD = [np.nan, np.inf, -np.inf]


def spoiled(column, places, value):
    column = column.copy()
    column[places] = value
    return column


def normal(*shape):
    return np.random.RandomState(len(shape)).standard_normal(shape).astype(np.float32)


KEPT = np.array([1, 0.5, 0, 0, 2, 0], np.float32)
TASKS = np.float32(np.arange(18).reshape(6, 3) % 4 != 0)
TASKS[5] = 0
IDLE = TASKS == 0


def weighted(items, weight):
    """The mean by hand, over what counts alone: every other value is set to 0 before the model."""
    weight = jnp.broadcast_to(weight.reshape(weight.shape + (1,) * (items.ndim - weight.ndim)), items.shape)
    return (items * weight).sum() / weight.sum()


def one_loss(model, batch):
    return ((batch["x"] @ model["w"] - batch["y"]) ** 2).sum(-1)


def tasks_loss(model, batch):
    return (batch["x"] @ model["w"] - batch["y"]) ** 2


def tokens_loss(model, batch):
    hidden = jnp.cumsum(batch["x"], 1) @ model["w"]  # each position reads those before it
    return (hidden - batch["y"]) ** 2


# name: (loss, clean batch, places of each column that carry no weight)
KINDS = {
    "targets": (one_loss, {"x": normal(6, 4), "y": normal(6, 3), "weight": KEPT}, {"y": KEPT == 0}),
    "inputs": (one_loss, {"x": normal(6, 4), "y": normal(6, 3), "weight": KEPT}, {"x": KEPT == 0}),
    "targets of tasks": (tasks_loss, {"x": normal(6, 4), "y": normal(6, 3), "weight": TASKS}, {"y": IDLE}),
    "whole examples": (tasks_loss, {"x": normal(6, 4), "y": normal(6, 3), "weight": TASKS}, {"x": 5, "y": 5}),
    "targets of tasks, a weight an example": (
        tasks_loss, {"x": normal(6, 4), "y": normal(6, 3), "weight": KEPT}, {"y": KEPT == 0},
    ),
    "values of tokens": (
        tokens_loss,
        {"x": normal(6, 3, 4), "y": normal(6, 3, 2), "weight": np.repeat(TASKS[..., None], 2, -1)},
        {"y": np.repeat(IDLE[..., None], 2, -1)},
    ),
}  # fmt: skip


OPTIONS = {
    "alone": {},
    "microbatches": {"accumulate": 2},
    "a loop of microbatches": {"accumulate": 6, "rolled": True},
    "guard": {"guard": fb.guard.skip(), "accumulate": 3},
}


def params_of(batch):
    return {"w": jnp.asarray(normal(batch["x"].shape[-1], batch["y"].shape[-1]))}


@functools.cache
def by_hand(kind):
    """Loss and gradient of the clean batch."""
    loss_fn, clean, _ = KINDS[kind]
    mean = lambda params, batch: weighted(loss_fn(params, batch), batch["weight"])
    return jax.jit(jax.value_and_grad(mean))(params_of(clean), clean)


@functools.cache
def compiled(loss_fn, options):
    """Beats, and their step with the loss before it as one program, for all kinds and values."""
    beats = fb.four_beats(loss_fn, optax.sgd(0.1), **OPTIONS[options])
    return beats, jax.jit(lambda state, batch: (beats.train_step(state, batch), beats.loss(state, batch)[0]))


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_are_those_of_the_clean_numbers(kind, value, options):
    loss_fn, clean, places = KINDS[kind]
    batch = {name: spoiled(c, places[name], value) if name in places else c for name, c in clean.items()}
    params, (expected, grads) = params_of(clean), by_hand(kind)
    beats, step = compiled(loss_fn, options)
    (state, logs), loss = step(beats.init(params), batch)
    np.testing.assert_allclose(state.params["w"], params["w"] - 0.1 * grads["w"], rtol=2e-5, atol=1e-6)
    assert int(state.num_updates) == 1 and np.isfinite(logs["loss"])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_feature_that_items_of_the_row_count_on_is_not_cleared_though_its_shape_is_the_weights():
    weight = np.float32([[1, 0, 1], [1, 1, 1]])
    batch = {"x": spoiled(normal(2, 3), (0, 1), np.nan), "y": normal(2, 3), "weight": weight}
    beats = fb.four_beats(tasks_loss, optax.sgd(0.1), guard=fb.guard.skip())
    params = params_of(batch)
    state, logs = jax.jit(beats.train_step)(beats.init(params), batch)
    assert not logs["finite"] and int(state.num_updates) == 0
    with pytest.raises(fb.guard.BadStepError, match="Bad examples of its batch: 0\\."):
        fb.guard.check(state)


def test_float16_neither_skips_the_step_nor_halves_its_scale():
    clean = KINDS["targets"][1]
    batch = {**clean, "x": clean["x"] / 100, "y": spoiled(clean["y"] / 100, KEPT == 0, np.inf)}

    def loss_fn(model, batch):
        output = batch["x"].astype(model["w"].dtype) @ model["w"]
        return ((output.astype(jnp.float32) - batch["y"]) ** 2).sum(-1)

    beats = fb.four_beats(loss_fn, optax.sgd(0.1), precision="float16")
    before = beats.init(params_of(clean))
    state, logs = jax.jit(beats.train_step)(before, batch)
    assert bool(logs["finite"]) and int(state.num_updates) == 1
    assert float(state.loss_scale.scale) == float(before.loss_scale.scale)


def test_a_network_with_metrics_trains_as_on_clean_examples():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first, self.last = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.relu(self.first(x)))

    def trained(batch, kept):
        metrics = fb.metrics.Collection(error=fb.metrics.MeanSquaredError(predictions="output", targets="y"))

        def loss_fn(model, batch):
            output = model(batch["x"])
            return ((output - batch["y"]) ** 2).sum(-1), {"output": output}

        beats = fb.four_beats(loss_fn, optax.adam(1e-2), metrics=metrics)
        state = beats.init(Net(nnx.Rngs(0)))
        for _ in range(3):
            state, _ = jax.jit(beats.train_step)(state, {name: c[kept] for name, c in batch.items()})
        return state

    clean = KINDS["inputs"][1]
    bad = {
        **clean,
        "x": spoiled(clean["x"], KEPT == 0, np.nan),
        "y": spoiled(clean["y"], KEPT == 0, np.inf),
    }
    expected, state = trained(clean, KEPT > 0), trained(bad, slice(None))
    for one, other in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    seen, _ = state.pop_metrics()
    assert np.isclose(seen["error"], expected.pop_metrics()[0]["error"], rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_where_nothing_counts_a_model_that_makes_nan_itself_changes_nothing(accumulate):
    loss_fn = lambda model, batch: jnp.log(model["w"] * batch["x"])
    beats = fb.four_beats(loss_fn, optax.sgd(0.1), guard=fb.guard.skip(), accumulate=accumulate)
    batch = {"x": np.float32([0, 0, 1, 1]), "weight": np.float32([0, 0, 1, 1])}
    state = beats.init({"w": jnp.ones(())})
    if accumulate == 2:  # the first microbatch weighs nothing
        state, _ = jax.jit(beats.train_step)(state, batch)
        assert np.isclose(state.params["w"], 0.9)
    after, _ = jax.jit(beats.train_step)(state, {**batch, "weight": np.zeros(4, np.float32)})
    assert float(after.params["w"]) == float(state.params["w"])
    assert int(after.guard.num_bad) == 0


@pytest.mark.parametrize("weight", [[1, -2, 0, 0], [1, np.nan, 0, 0], [1, np.inf, 0, 0]], ids=str)
def test_a_summed_weight_below_0_or_not_finite_is_a_bad_step(weight):
    beats = fb.four_beats(lambda m, b: (m["w"] * b["x"] - 1) ** 2, optax.sgd(0.1), guard=fb.guard.skip())
    batch = {"x": np.ones(4, np.float32), "weight": np.float32(weight)}
    state, logs = jax.jit(beats.train_step)(beats.init({"w": jnp.zeros(())}), batch)
    assert not logs["finite"] and int(state.guard.num_bad) == 1 and float(state.params["w"]) == 0
    with pytest.raises(fb.guard.BadStepError):
        fb.guard.check(state)
