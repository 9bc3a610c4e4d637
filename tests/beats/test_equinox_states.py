"""Models of Equinox with running statistics, beside the loop that Equinox's documentation writes."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from tests.kinds import assert_bit_equal

STEPS = 4


class Net(eqx.Module):
    """Batch normalisation and a linear layer."""

    norm: eqx.nn.BatchNorm
    out: eqx.nn.Linear

    def __init__(self, key):
        self.norm = eqx.nn.BatchNorm(3, "batch", mode="batch")
        self.out = eqx.nn.Linear(3, 1, key=key)

    def __call__(self, x, state):
        x, state = self.norm(x, state)
        return self.out(x)[0], state


def make():
    return eqx.nn.make_with_state(Net)(jax.random.key(0))


def over_batch(net, state, x):
    return jax.vmap(net, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)


def batch(seed):
    random = np.random.RandomState(seed)
    x = 2 + random.standard_normal((8, 3)).astype(np.float32)
    return {"x": x, "y": x.sum(1)}


def by_hand(tx):
    """The loop of Equinox's guide to stateful operations."""
    net, state = make()
    opt_state = tx.init(eqx.filter(net, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(net, state, opt_state, batch):
        def loss_of(net):
            seen, after = over_batch(net, state, batch["x"])
            return ((seen - batch["y"]) ** 2).mean(), after

        (_, state), grads = eqx.filter_value_and_grad(loss_of, has_aux=True)(net)
        updates, opt_state = tx.update(grads, opt_state, eqx.filter(net, eqx.is_inexact_array))
        return eqx.apply_updates(net, updates), state, opt_state, optax.tree.norm(grads)

    for seed in range(STEPS):
        net, state, opt_state, _ = step(net, state, opt_state, jax.tree.map(jnp.asarray, batch(seed)))
    return net, state


def dict_loss(model, batch):
    seen, model["state"] = over_batch(model["net"], model["state"], batch["x"])
    return (seen - batch["y"]) ** 2


def pair_loss(model, batch):
    net, state = model
    seen, _ = over_batch(net, state, batch["x"])
    return (seen - batch["y"]) ** 2


def test_a_dict_of_net_and_state_trains_as_by_hand_statistics_included():
    net, state = by_hand(optax.adamw(1e-2))
    beats = fb.four_beats(dict_loss, optax.adamw(1e-2))
    ours, step = beats.init(dict(zip(("net", "state"), make(), strict=True))), fb.compile(beats.train_step)
    for seed in range(STEPS):
        ours, _ = step(ours, batch(seed))
    assert step.num_compilations == 1
    for leaf, expected in zip(
        jax.tree.leaves(eqx.filter((ours.model["net"], ours.model["state"]), eqx.is_array)),
        jax.tree.leaves(eqx.filter((net, state), eqx.is_array)),
        strict=True,
    ):
        np.testing.assert_allclose(leaf, expected, rtol=2e-6)
    inference = eqx.nn.inference_mode(ours.model["net"])
    seen, _ = over_batch(inference, ours.model["state"], batch(0)["x"])
    expected, _ = over_batch(eqx.nn.inference_mode(net), state, batch(0)["x"])
    np.testing.assert_allclose(seen, expected, rtol=1e-5)


def test_a_pair_keeps_its_statistics_and_says_that_it_does():
    beats = fb.four_beats(pair_loss, optax.adamw(1e-2))
    state, step = beats.init(make()), fb.compile(beats.train_step)
    before = state.replace()
    with pytest.warns(fb.beats.LostStateWarning) as caught:
        state, _ = step(state, batch(0))
    for seed in range(1, STEPS):
        state, _ = step(state, batch(seed))
    assert_bit_equal(state.rest, before.rest)
    assert [str(each.message) for each in caught] == [
        "model[1] is an equinox.nn.State that loss_fn cannot replace: what the forward pass makes of it, "
        "such as running statistics, is lost. Make the model a dict, {'net': net, 'state': state}, and write "
        "the new one in loss_fn: model['state'] = new_state."
    ]
    assert not np.array_equal(state.params[0]["out"]["weight"], before.params[0]["out"]["weight"])


def test_the_state_of_a_list_below_a_pair_can_be_written():
    def loss_fn(model, batch):
        (holder,) = model
        seen, holder[1] = over_batch(*holder, batch["x"])
        return (seen - batch["y"]) ** 2

    beats = fb.four_beats(loss_fn, optax.sgd(1e-2))
    state = beats.init((list(make()),))
    after, _ = fb.compile(beats.train_step, donate=False)(state, batch(0))
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), state.rest, after.rest)
    assert all(jax.tree.leaves(changed))


def test_a_process_without_equinox_does_not_load_it():
    code = (
        "import sys, jax.numpy as jnp, optax, fourbeat as fb\n"
        "beats = fb.four_beats(lambda model, batch: model['w'] * batch['x'], optax.sgd(0.1))\n"
        "beats.train_step(beats.init({'w': jnp.ones(())}), {'x': jnp.ones(2)})\n"
        "print('equinox' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
