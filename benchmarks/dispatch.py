"""The price of a step: a small MLP, where the work is nothing and the overhead all."""

import itertools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import fourbeat as fb
from benchmarks.rounds import in_turn, table

SIZES = (8, 16, 16, 16, 10)
CALLS = 2_000


class MLP(nnx.Module):
    """Four linear layers, 8-16-16-16-10: eight arrays, 26 leaves with AdamW."""

    def __init__(self, *, rngs: nnx.Rngs):
        pairs = itertools.pairwise(SIZES)
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in pairs])

    def __call__(self, x):
        """Logits (batch, 10) of (batch, 8)."""
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


def loss_fn(model, batch):
    """Cross-entropy of each example."""
    return optax.softmax_cross_entropy_with_integer_labels(model(batch["x"]), batch["label"])


def one_batch() -> dict:
    """A batch of one example, on the device."""
    return {"x": jnp.ones((1, 8)), "label": jnp.zeros((1,), jnp.int32)}


def raw_jit() -> Callable[[], float]:
    """`jax.jit` with donation over plain dicts, written by hand."""
    graphdef, state = nnx.split(MLP(rngs=nnx.Rngs(0)))
    params, tx, batch = nnx.to_pure_dict(state), optax.adamw(1e-3), one_batch()

    def step(params, opt_state, batch):
        def mean(params):
            return loss_fn(nnx.merge(graphdef, nnx.State(params)), batch).mean()

        loss, grads = jax.value_and_grad(mean)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    step = jax.jit(step, donate_argnums=(0, 1))
    carry = jax.tree.map(jnp.copy, (params, tx.init(params)))

    def run() -> float:
        nonlocal carry
        start = time.perf_counter()
        for _ in range(CALLS):
            *carry, _ = step(*carry, batch)
        jax.block_until_ready(carry)
        return (time.perf_counter() - start) / CALLS

    return run


def nnx_jit() -> Callable[[], float]:
    """The loop of the Flax tutorials."""
    model = MLP(rngs=nnx.Rngs(0))
    optimizer, batch = nnx.Optimizer(model, optax.adamw(1e-3), wrt=nnx.Param), one_batch()

    @nnx.jit
    def step(model, optimizer, batch):
        loss, grads = nnx.value_and_grad(lambda model: loss_fn(model, batch).mean())(model)
        optimizer.update(model, grads)
        return loss

    def run() -> float:
        calls = CALLS // 10
        start = time.perf_counter()
        for _ in range(calls):
            loss = step(model, optimizer, batch)
        jax.block_until_ready(loss)
        return (time.perf_counter() - start) / calls

    return run


def fourbeat_step() -> Callable[[], float]:
    """One compiled call a step."""
    beats = fb.four_beats(loss_fn, optax.adamw(1e-3))
    state, step, batch = beats.init(MLP(rngs=nnx.Rngs(0))), fb.compile(beats.train_step), one_batch()

    def run() -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(CALLS):
            state, _ = step(state, batch)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / CALLS

    return run


def fourbeat_fused() -> Callable[[], float]:
    """100 steps a call, the loop and its blocks counted in, from data on the device."""
    beats = fb.four_beats(loss_fn, optax.adamw(1e-3))
    data = fb.data.Arrays(x=np.ones((4_096, 8), np.float32), label=np.zeros(4_096, np.int32))
    batches = data.batches(1, shuffle=True, seed=0)
    state, step = beats.init(MLP(rngs=nnx.Rngs(0))), fb.compile(beats.train_step)
    num_steps = 10 * CALLS

    def run() -> float:
        nonlocal state
        until = fb.at(steps=int(state.step) + num_steps)
        start = time.perf_counter()
        for tick in fb.loop(batches, start=state.step, until=until, steps_per_call=100):
            state, _ = step(state, tick.batch)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / num_steps

    return run


def report(rounds: int) -> str:
    """The table."""
    sides = {
        "raw jax.jit over dicts": raw_jit(),
        "nnx.jit": nnx_jit(),
        "fourbeat": fourbeat_step(),
        "fourbeat, 100 steps a call": fourbeat_fused(),
    }
    measured = in_turn(sides, rounds)
    above = 1e6 * (measured.median("fourbeat") - measured.median("raw jax.jit over dicts"))
    text = table("MLP 8-16-16-16-10, batch 1, AdamW: a step", measured, "us", 1e6, "raw jax.jit over dicts")
    return f"{text}\nfourbeat above raw jax.jit: {above:.1f} us a call"
