"""The main job, steady state: the bare executable, fourbeat's loop, the loop written by hand."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import fourbeat as fb
from benchmarks.rounds import in_turn, table
from fourbeat.compiling import CompiledStep
from fourbeat.recipes.mnist_cnn import CNN, METRICS, loss_fn

BATCH_SIZE = 32
STEPS = 150  # a round of each side
BARE = "its bare executable, one batch"


def host_columns() -> tuple[np.ndarray, np.ndarray]:
    """Training images float32 in [0, 1], labels int32, as a tutorial holds them."""
    train, _ = fb.data.mnist()
    return train.columns["image"].astype(np.float32) / 255, train.columns["label"].astype(np.int32)


def make_step() -> tuple[fb.TrainState, CompiledStep, fb.data.Batches]:
    """State, step and batches of the recipe."""
    train, _ = fb.data.mnist()
    batches = train.batches(BATCH_SIZE, shuffle=True, seed=0, remainder="drop")
    beats = fb.four_beats(loss_fn, optax.adamw(5e-3, b1=0.9), metrics=METRICS)
    return beats.init(CNN(rngs=nnx.Rngs(0))), fb.compile(beats.train_step), batches


def bare_executable() -> Callable[[], float]:
    """Fourbeat's compiled step itself, called on one batch that stays on the device: the limit."""
    state, step, batches = make_step()
    batch = batches[0]
    executable = step.lower(state, batch).compile()

    def run() -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(STEPS):
            state, _ = executable(state, batch)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / STEPS

    return run


def bare_plain_executable(images: np.ndarray, labels: np.ndarray) -> Callable[[], float]:
    """The compiled step of a plain loop, without metrics and gradient norm, called likewise."""
    graphdef, state = nnx.split(CNN(rngs=nnx.Rngs(0)))
    tx = optax.adamw(5e-3, b1=0.9)
    batch = {"image": jnp.asarray(images[:BATCH_SIZE]), "label": jnp.asarray(labels[:BATCH_SIZE])}

    def step(params, opt_state, batch):
        def mean(params):
            return loss_fn(nnx.merge(graphdef, nnx.State(params)), batch)[0].mean()

        loss, grads = jax.value_and_grad(mean)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    params = jax.tree.map(jnp.copy, nnx.to_pure_dict(state))
    carry = (params, jax.tree.map(jnp.copy, tx.init(params)))
    executable = jax.jit(step, donate_argnums=(0, 1)).lower(*carry, batch).compile()

    def run() -> float:
        nonlocal carry
        start = time.perf_counter()
        for _ in range(STEPS):
            *carry, _ = executable(*carry, batch)
        jax.block_until_ready(carry)
        return (time.perf_counter() - start) / STEPS

    return run


def fourbeat_loop() -> Callable[[], float]:
    """What the recipe does between two evaluations: shuffled data, metrics, marks."""
    state, step, batches = make_step()

    def run() -> float:
        nonlocal state
        until = fb.at(steps=int(state.step) + STEPS) | fb.stop_signal()
        start = time.perf_counter()
        for tick in fb.loop(batches, start=state.step, until=until, marks=[fb.every(steps=1_000)]):
            state, _ = step(state, tick.batch)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / STEPS

    return run


def nnx_loop(images: np.ndarray, labels: np.ndarray) -> Callable[[], float]:
    """The loop of the Flax tutorial, with `jnp.array` batches and `nnx.MultiMetric`."""
    model = CNN(rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adamw(5e-3, b1=0.9), wrt=nnx.Param)
    metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss"))
    random = np.random.default_rng(0)

    @nnx.jit
    def step(model, optimizer, metrics, batch):
        def mean(model):
            loss, aux = loss_fn(model, batch)
            return loss.mean(), aux["logits"]

        (loss, logits), grads = nnx.value_and_grad(mean, has_aux=True)(model)
        metrics.update(loss=loss, logits=logits, labels=batch["label"])
        optimizer.update(model, grads)

    def run() -> float:
        start = time.perf_counter()
        for _ in range(STEPS):
            rows = random.integers(0, len(images), BATCH_SIZE)
            step(
                model,
                optimizer,
                metrics,
                {"image": jnp.array(images[rows]), "label": jnp.array(labels[rows])},
            )
        jax.block_until_ready(nnx.state(model))
        return (time.perf_counter() - start) / STEPS

    return run


def report(rounds: int) -> str:
    """The table."""
    columns = host_columns()
    sides = {
        BARE: bare_executable(),
        "the same without norm and metrics": bare_plain_executable(*columns),
        "fourbeat": fourbeat_loop(),
        "nnx.jit loop": nnx_loop(*columns),
    }
    title = f"mnist-cnn, batch {BATCH_SIZE}: a step"
    return table(title, in_turn(sides, rounds), "ms", 1e3, BARE)
