"""Law 1: parameters after n steps are bit-equal to those of the same loop written by hand."""

import functools
import os

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import fourbeat as fb
from tests.kinds import KINDS, OPTIMIZERS, assert_bit_equal
from tests.oracles.steps_by_hand import train_module, train_tree

NUM_STEPS = 6


@functools.cache
def by_hand(kind, optimizer):
    kind, tx = KINDS[kind], OPTIMIZERS[optimizer]()
    model, batches = kind.make(0), [kind.batch(seed, 8) for seed in range(NUM_STEPS)]
    train = train_module if isinstance(model, nnx.Module) else train_tree
    return train(model, kind.items, tx, batches)


def by_fourbeat(kind, tx, batches, **options):
    def loss_fn(model, batch):
        loss, logits = kind.items(model, batch)
        return loss, {"logits": logits, "labels": batch["label"]}

    metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())
    beats = fb.four_beats(loss_fn, tx, metrics=metrics, **options)
    state, losses = beats.init(kind.make(0)), []
    step = fb.compile(beats.train_step, on_recompile="raise")
    for batch in batches:
        state, logs = step(state, batch)
        losses.append(logs["loss"])
    return state, losses


# Each model, and each kind of optimizer that test_every_optimizer does not have.
ROWS = [
    ("cnn", "momentum"),
    ("cnn", "warm-up cosine"),
    ("transformer", "adamw"),
    ("bfloat16 cnn", "momentum"),
]
ROWS += [("dict", name) for name in ("adamw", "chain", "user's", "compiled", "multi_transform")]
if os.environ.get("FOURBEAT_THOROUGH"):  # nnx.Optimizer cannot run multi_transform: its labels do not match
    ROWS += [("cnn", name) for name in OPTIMIZERS if ("cnn", name) not in ROWS and name != "multi_transform"]


@pytest.mark.parametrize(("kind", "optimizer"), ROWS)
def test_bit_equal_to_the_loop_written_by_hand(kind, optimizer):
    params, rest, losses = by_hand(kind, optimizer)
    kind = KINDS[kind]
    batches = [kind.batch(seed, 8) for seed in range(NUM_STEPS)]
    state, our_losses = by_fourbeat(kind, OPTIMIZERS[optimizer](), batches)
    assert_bit_equal(our_losses, losses)
    assert_bit_equal(state.params, params)
    assert_bit_equal(state.rest, rest)
    assert int(state.step) == int(state.num_updates) == NUM_STEPS


def test_only_what_wrt_selects_is_trained_and_has_optimizer_state():
    kind = KINDS["cnn"]
    wrt = nnx.All(nnx.Param, nnx.PathContains("head"))
    batches = [kind.batch(seed, 8) for seed in range(NUM_STEPS)]
    params, rest, _ = train_module(kind.make(0), kind.items, optax.adam(1e-2), batches, wrt=wrt)
    state, _ = by_fourbeat(kind, optax.adam(1e-2), batches, wrt=wrt)
    assert_bit_equal(state.params, params)
    assert_bit_equal(state.rest, rest)
    start = fb.split(kind.make(0))[1]
    assert_bit_equal(state.rest["conv"], start["conv"])
    assert len(jax.tree.leaves(state.opt_state)) == 1 + 2 * len(jax.tree.leaves(state.params))


def test_an_lr_scale_of_one_leaves_every_bit_and_another_scales_the_update():
    kind = KINDS["dict"]
    batch = kind.batch(0, 8)
    beats = fb.four_beats(lambda model, batch: kind.items(model, batch)[0], optax.sgd(0.1))
    state = beats.init(kind.make(0))
    start = jax.device_get(state.params)
    whole, _ = jax.jit(beats.train_step)(state, batch)
    half, _ = jax.jit(beats.train_step)(state.replace(lr_scale=0.5), batch)
    for before, one, scaled in zip(*map(jax.tree.leaves, (start, whole.params, half.params)), strict=True):
        assert jnp.allclose((one - before) / 2, scaled - before, atol=1e-7)


def test_a_line_between_the_beats_is_the_same_step():
    kind = KINDS["cnn"]
    beats = fb.four_beats(lambda model, batch: kind.items(model, batch)[0], OPTIMIZERS["momentum"]())

    def my_step(state, batch):
        grads, out = beats.gradient(state, batch)
        return beats.update(state, grads, out)

    step, state = fb.compile(my_step), beats.init(kind.make(0))
    for seed in range(NUM_STEPS):
        state, _ = step(state, kind.batch(seed, 8))
    params, rest, _ = by_hand("cnn", "momentum")
    assert_bit_equal((state.params, state.rest), (params, rest))
    assert int(state.step) == int(state.num_updates) == NUM_STEPS
