"""TrainState: copies, dtypes, metrics, text."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat.compiling.compilation_monitor import CompilationMonitor
from tests.kinds import KINDS, assert_bit_equal

KIND = KINDS["cnn"]
METRICS = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())


def loss_fn(model, batch):
    loss, logits = KIND.items(model, batch)
    return loss, {"logits": logits, "labels": batch["label"]}


@pytest.fixture(scope="module")
def beats():
    return fb.four_beats(loss_fn, optax.adam(1e-2), metrics=METRICS)


def test_leaves_are_plain_strongly_typed_buffers_of_their_own(beats):
    model = KIND.make(0)
    state = beats.init(model)
    leaves = jax.tree.leaves(state)
    assert not any(leaf.weak_type for leaf in leaves)
    assert not any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves)
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
    jax.tree.map(lambda leaf: leaf.delete(), state)
    model(jnp.ones((1, 8, 8, 1)))  # nothing of the user's is deleted
    assert beats.init(model).step == 0


def test_arrays_that_an_optimizer_keeps_twice_are_buffers_of_their_own():
    tx = optax.contrib.schedule_free_sgd(0.1)  # it keeps the parameters themselves
    state = fb.four_beats(lambda model, batch: model["w"], tx, ema=0.9).init({"w": jnp.arange(3.0)})
    leaves = jax.tree.leaves(state)
    assert sum(leaf.shape == (3,) for leaf in leaves) == 3
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def test_a_second_init_of_one_kind_traces_and_compiles_nothing():
    tx, inits = optax.adam(1e-2), []

    def init(params):
        inits.append(jax.tree.structure(params))
        return tx.init(params)

    guard, counted = fb.guard.skip(), optax.GradientTransformation(init, tx.update)
    beats = fb.four_beats(loss_fn, counted, metrics=METRICS, guard=guard, ema=0.9, precision="float16")
    first = beats.init(KIND.make(0))
    with CompilationMonitor() as monitor:
        second = beats.init(KIND.make(1), key=1)
        third = beats.init(KIND.make(0))
    assert len(inits) == 1
    assert not {name for name, _ in monitor.ended} & {"init", "_start", "_copies", "_init"}
    assert_bit_equal(first, third)
    params = fb.split(KIND.make(1))[1]
    assert_bit_equal(second.params, params)
    assert_bit_equal(second.opt_state, tx.init(params))
    beats.init({"w": jnp.ones(2)})
    assert len(inits) == 2  # another structure


def test_a_donated_step_deletes_nothing_that_replace_model_or_pop_metrics_gave_or_took(beats):
    step = fb.compile(beats.train_step)
    state = beats.init(KIND.make(0), key=jax.random.key(1))
    held = jax.tree.map(jnp.array, state.params)
    live = state.model
    state = state.replace(params=held, lr_scale=0.5, key=jnp.array([0, 1], jnp.uint32))
    state, _ = step(state, KIND.batch(0, 8))
    popped, state = state.pop_metrics()
    state, _ = step(state, KIND.batch(1, 8))
    state, _ = step(state, KIND.batch(2, 8))
    assert np.isfinite(held["conv"]["kernel"]).all()
    live(jnp.ones((1, 8, 8, 1)))
    assert list(popped) == ["loss", "accuracy"]
    assert all(isinstance(value, float) for value in popped.values())


def test_pop_metrics_gives_the_epoch_so_far_and_starts_anew(beats):
    step = jax.jit(beats.train_step)
    state, right, total, losses = beats.init(KIND.make(0)), 0, 0, []
    for seed in range(3):
        batch = KIND.batch(seed, 8)
        _, aux = beats.loss(state, batch)
        right += int((aux["logits"].argmax(-1) == batch["label"]).sum())
        total += 8
        state, logs = step(state, batch)
        losses.append(float(logs["loss"]))
    values, state = state.pop_metrics()
    np.testing.assert_allclose(values["accuracy"], right / total, rtol=1e-6)
    np.testing.assert_allclose(values["loss"], np.mean(losses), rtol=1e-6)
    with pytest.warns(fb.metrics.NothingSeenWarning, match="metric 'loss'"):
        assert np.isnan(state.pop_metrics()[0]["loss"])
    assert fb.four_beats(loss_fn, optax.sgd(0.1)).init(KIND.make(0)).pop_metrics()[0] == {}


def test_replace_keeps_each_dtype(beats):
    state = beats.init(KIND.make(0))
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float64), state.params)
    changed = state.replace(params=ones, step=7, lr_scale=1)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(changed), strict=True):
        assert (before.dtype, before.shape) == (after.dtype, after.shape)
    assert changed.step == 7
    assert_bit_equal(state.replace(), state)


MODELS = {
    "module": lambda seed: KIND.make(seed),
    "dict": lambda seed: KINDS["dict"].make(seed) | {"seen": jnp.array(seed)},
    "tuple": lambda seed: (jnp.full(3, float(seed)), {"n": np.arange(2)}, "name"),
    "array": lambda seed: jnp.full(3, float(seed)),
    "equinox": lambda seed: eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(seed)),
    "modules in a list": lambda seed: [KIND.make(seed), nnx.Linear(2, 2, rngs=nnx.Rngs(seed))],
    "key": lambda seed: {"w": jnp.full(2, float(seed)), "key": jax.random.key(seed)},
}


@pytest.mark.parametrize("name", MODELS)
def test_replace_of_the_model_is_the_inverse_of_the_model(name):
    beats = fb.four_beats(loss_fn, optax.adam(1e-2), ema=0.9)
    state, other = beats.init(MODELS[name](0)), beats.init(MODELS[name](1))
    assert_bit_equal(state.replace(model=state.model), state)
    changed = state.replace(model=MODELS[name](1), step=3)
    assert_bit_equal((changed.params, changed.rest), (other.params, other.rest))
    assert_bit_equal((changed.opt_state, changed.ema, changed.key), (state.opt_state, state.ema, state.key))
    assert (int(changed.step), changed.static) == (3, state.static)
    inside = jax.jit(lambda state, given: state.replace(model=given.model))(state, other)
    assert_bit_equal((inside.params, inside.rest), (other.params, other.rest))


def test_replace_of_the_model_shares_nothing_with_it(beats):
    model = KIND.make(3)
    model.train()
    state = beats.init(KIND.make(0)).replace(model=model)
    fb.compile(beats.train_step)(state, KIND.batch(0, 8))
    model(jnp.ones((2, 8, 8, 1)))  # in training mode still, and nothing of it is deleted
    assert not model.drop.deterministic


def wider(state):
    model = state.model
    model.head.bias = nnx.Param(jnp.zeros(7))
    return {"model": model}


def with_rate(state):
    model = state.model
    model.drop.rate = 0.5
    return {"model": model}


MODEL_ERRORS = {
    "another shape": (
        wider,
        "cannot replace params['head']['bias'] of shape (5,) with an array of shape (7,). Give one of "
        "the same shape, or start from beats.init.",
    ),
    "another constant": (
        with_rate,
        "cannot replace model: the model has another structure: model.drop.rate changed from 0.3 to 0.5. "
        "Give a model built the same way, or start from beats.init(model).",
    ),
    "twice": (
        lambda state: {"model": state.model, "params": state.params},
        "cannot replace model and params at once: the model holds them. Give one or the other.",
    ),
}


@pytest.mark.parametrize("case", MODEL_ERRORS)
def test_errors_of_a_model_that_cannot_be_put_in(beats, case):
    change, text = MODEL_ERRORS[case]
    state = beats.init(KIND.make(0))
    with pytest.raises(ValueError) as caught:
        state.replace(**change(state))
    assert str(caught.value) == text


ERRORS = {
    "no field": (
        {"learning_rate": 1.0},
        "TrainState has no field 'learning_rate'. Its fields: step, num_updates, key, params, rest, "
        "opt_state, metrics, lr_scale, ema, loss_scale, guard, static, key_impl.",
    ),
    "another shape": (
        {"lr_scale": np.ones(2)},
        "cannot replace lr_scale of shape () with an array of shape (2,). Give one of the same shape, or "
        "start from beats.init.",
    ),
    "another structure": (
        {"params": {"conv": 1}},
        "cannot replace params: the new tree has another structure.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_replace_errors(beats, case):
    changes, text = ERRORS[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        beats.init(KIND.make(0)).replace(**changes)
    assert str(caught.value).startswith(text)


def test_repr_is_one_short_line_even_when_donated(beats):
    state = beats.init(KIND.make(0))
    text = "TrainState(step=0, 373 parameters in 6 arrays, with metrics)"
    assert repr(state) == text
    fb.compile(beats.train_step)(state, KIND.batch(0, 8))
    assert repr(state) == text.replace("step=0", "step=donated")


def test_restoring_from_a_model_built_the_same_way(beats):
    one, other = beats.init(KIND.make(0)), beats.init(KIND.make(1))
    restored = jax.tree.unflatten(jax.tree.structure(other), jax.tree.leaves(one))
    assert_bit_equal(restored, one)
    assert isinstance(restored.model, nnx.Module)
