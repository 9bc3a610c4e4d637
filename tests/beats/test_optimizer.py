"""Optimizers that hold PRNG keys, and what is said of labels and masks that do not fit the parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from tests.kinds import KINDS, assert_bit_equal
from tests.oracles.steps_by_hand import train_tree

KIND = KINDS["dict"]
WITH_KEYS = {
    "noise": lambda: optax.chain(optax.add_noise(0.1, 0.5, key=jax.random.key(3)), optax.sgd(0.1)),
    "another implementation": lambda: optax.chain(
        optax.add_noise(0.1, 0.5, key=jax.random.key(3, impl="rbg")), optax.adam(1e-2)
    ),
    "within a group": lambda: optax.partition(
        {"noisy": optax.add_noise(0.1, 0.5, key=jax.random.key(3)), "plain": optax.sgd(0.1)},
        {"w": "noisy", "b": "plain"},
    ),
}


def loss_fn(model, batch):
    return KIND.items(model, batch)[0]


def assert_same(opt_state, by_hand):
    """The state of an optimizer and that of the loop by hand, whose keys are typed."""
    as_data = lambda leaf: (
        jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    )
    assert_bit_equal(opt_state, jax.tree.map(as_data, by_hand))


def test_a_key_in_the_optimizer_is_as_in_the_loop_by_hand_and_survives_blocks_and_checkpoints(tmp_path):
    name = "another implementation"  # the single steps below have each of them
    batches = [KIND.batch(seed, 8) for seed in range(12)]
    by_hand, _, _ = train_tree(KIND.make(0), KIND.items, WITH_KEYS[name](), batches)
    beats = fb.four_beats(loss_fn, WITH_KEYS[name](), guard=fb.guard.skip())
    state, step = beats.init(KIND.make(0)), fb.compile(beats.train_step, on_recompile="raise")
    assert not any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))
    for tick in fb.loop(batches[:6], until=fb.at(epochs=1)):
        state, _ = step(state, tick.batch)
    with fb.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(6, state)
        checkpoints.wait()
        state = checkpoints.restore(beats.init(KIND.make(1)))
    for tick in fb.loop(batches[6:], start=0, until=fb.at(epochs=1), steps_per_call=4):
        state, _ = step(state, tick.batch)
    assert int(state.num_updates) == 12
    for leaf, expected in zip(jax.tree.leaves(state.params), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-6)  # a block is another program


@pytest.mark.parametrize("name", WITH_KEYS)
def test_single_steps_leave_every_bit_of_the_loop_by_hand(name):
    batches, tx = [KIND.batch(seed, 8) for seed in range(5)], WITH_KEYS[name]()
    params, opt_state = KIND.make(0), tx.init(KIND.make(0))

    @jax.jit
    def by_hand(params, opt_state, batch):
        grads = jax.grad(lambda p: KIND.items(p, batch)[0].mean())(params)
        norm = optax.tree.norm(grads)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, norm

    beats = fb.four_beats(loss_fn, WITH_KEYS[name]())
    state, step = beats.init(KIND.make(0)), fb.compile(beats.train_step)
    for batch in batches:
        params, opt_state, _ = by_hand(params, opt_state, batch)
        state, _ = step(state, batch)
    assert_bit_equal(state.params, params)
    assert_same(state.opt_state, opt_state)


def test_replace_takes_a_fresh_optimizer_state_and_typed_keys():
    tx = WITH_KEYS["noise"]()
    beats = fb.four_beats(loss_fn, tx)
    state = beats.init(KIND.make(0))
    used, _ = jax.jit(beats.train_step)(state, KIND.batch(0, 8))
    fresh = used.replace(opt_state=tx.init(used.params), key=jax.random.key(5))
    assert_bit_equal(fresh.opt_state, state.opt_state)
    assert_bit_equal(fresh.key, beats.init(KIND.make(0), key=5).key)
    with pytest.raises(ValueError) as caught:
        state.replace(key=jax.random.key(5, impl="rbg"))
    assert str(caught.value) == (
        "cannot replace key: it is a key of rbg and this state's are of threefry2x32. Start from "
        "beats.init(model, key=...)."
    )


def test_a_typed_key_goes_through_the_blocks_of_any_step():
    def by_hand(state, batch):
        key, used = jax.random.split(state["key"])
        return {"key": key, "x": state["x"] + jax.random.normal(used) * batch["x"].sum()}, {"key": used}

    state, key = {"key": jax.random.key(1), "x": jnp.zeros(())}, None
    block = fb.Block.stack([{"x": np.full(2, n, np.float32)} for n in range(3)])
    fused, out = fb.compile(by_hand, donate=False)(state, block)
    for place in range(3):
        state, key = jax.jit(by_hand)(state, block.take(place))
    assert_bit_equal(*(jax.random.key_data(each["key"]) for each in (fused, state)))
    assert_bit_equal(jax.random.key_data(out["key"]), jax.random.key_data(key["key"]))
    np.testing.assert_allclose(fused["x"], state["x"], rtol=1e-6)


class Net(nnx.Module):
    def __init__(self):
        self.layers = nnx.List([nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 1, rngs=nnx.Rngs(1))])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x[:, 0]


def labels_of(model):
    return nnx.map_state(lambda path, _: "a" if path[-1] == "bias" else "b", nnx.state(model, nnx.Param))


GROUPS = {"a": optax.sgd(0.1), "b": optax.sgd(0.2)}
OF_NET = (
    "Raised in tx.init. It was given the parameters as nested dicts of arrays: params['layers'][0]['bias'] "
    "float32[3], params['layers'][0]['kernel'] float32[2,3], params['layers'][1]['bias'] float32[1], "
    "params['layers'][1]['kernel'] float32[3,1]. "
)
OF_LIST = (
    "Raised in tx.init. It was given the parameters as nested dicts of arrays: params[0] float32[3], "
    "params[1] float32[]. "
)
OF_LINEAR = (
    "Raised in tx.init. It was given the parameters as nested dicts of arrays: params['bias'] float32[3], "
    "params['weight'] float32[3,2]. "
)
REPAIR = (
    "Labels and masks have this structure, not the model's: make them of what tx.init is given, by a "
    "function of params such as optax.partition(transforms, lambda params: jax.tree.map_with_path(label, "
    "params)), or of fb.split(model)[1]."
)


def equinox_linear():
    return eqx.nn.Linear(2, 3, key=jax.random.key(0))


MISFITS = {
    "labels by nnx.map_state": (Net, lambda model: optax.partition(GROUPS, labels_of(model)), OF_NET),
    "labels like a list": (
        lambda: [jnp.ones(3), jnp.ones(())],
        lambda model: optax.partition(GROUPS, ["a", "b"]),
        OF_LIST,
    ),
    "a mask like a list": (
        lambda: [jnp.ones(3), jnp.ones(())],
        lambda model: optax.adamw(0.1, mask=[True, False]),
        OF_LIST,
    ),
    "a mask like an Equinox module": (
        equinox_linear,
        lambda model: optax.masked(optax.sgd(0.1), jax.tree.map(lambda _: True, model)),
        OF_LINEAR,
    ),
    "a label without its optimizer": (
        lambda: [jnp.ones(3), jnp.ones(())],
        lambda model: optax.partition(GROUPS, {0: "a", 1: "c"}),
        OF_LIST,
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_an_error_of_init_shows_what_the_parameters_look_like(name):
    make, tx, seen = MISFITS[name]
    with pytest.raises(Exception) as caught:
        fb.four_beats(loss_fn, tx(make())).init(make())
    assert caught.value.__notes__[0] == seen + REPAIR  # what follows is a note of JAX


def test_labels_of_the_structure_that_the_note_shows_are_right():
    beats = fb.four_beats(lambda model, batch: model(batch["x"]), optax.partition(GROUPS, by_path))
    state = beats.init(Net())
    batch = {"x": np.ones((4, 2), np.float32)}
    grads, out = jax.jit(beats.gradient)(state, batch)
    after, _ = jax.jit(beats.update)(state, grads, out)
    for layer in range(2):
        for name, rate in (("bias", 0.1), ("kernel", 0.2)):
            before, grad = (tree["layers"][layer][name] for tree in (state.params, grads))
            np.testing.assert_allclose(after.params["layers"][layer][name], before - rate * grad, rtol=1e-6)


def by_path(params):
    return jax.tree.map_with_path(lambda path, _: "a" if path[-1].key == "bias" else "b", params)


@pytest.mark.parametrize(
    ("tx", "name"),
    [(optax.lbfgs(), "value_fn"), (optax.contrib.sophia(1e-2), "obj_fn")],
    ids=["lbfgs", "sophia"],
)
def test_a_function_that_an_optimizer_asks_for_is_named(tx, name):
    beats = fb.four_beats(lambda model, batch: model["w"] * batch["x"], tx)
    with pytest.raises((TypeError, ValueError), match=name) as caught:
        beats.train_step(beats.init({"w": np.float32(1)}), {"x": np.ones(2, np.float32)})
    assert f"Pass it in a step of your own: beats.update(..., {name}=)." in caught.value.__notes__
