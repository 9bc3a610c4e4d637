"""All parts at once: ragged weights, accumulation, precision, guard, average, clipping, schedule, blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat import guard
from tests.kinds import KINDS, assert_bit_equal

SIZE, DECAY = 8, 0.9
SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 0.1, 3, 12)
KIND = KINDS["dict"]


def optimizer():
    return optax.chain(optax.clip_by_global_norm(0.2), optax.adamw(SCHEDULE))


def ragged(seed, kept=SIZE):
    weight = np.random.RandomState(seed).uniform(0.1, 3, SIZE).astype(np.float32)
    weight[kept:] = 0
    return {**KIND.batch(seed, SIZE), "weight": weight}


def spoiled(batch):
    x = batch["x"].copy()
    x[3, 1] = np.nan
    return {**batch, "x": x}


BATCHES = [ragged(0), ragged(1, kept=5), spoiled(ragged(2)), ragged(3, kept=0), ragged(4), ragged(5, kept=1)]
APPLIED = [0, 1, 4, 5]


@functools.cache
def by_hand():
    """The loop over the batches that count, in plain JAX and Optax, with nothing cut, cast or skipped."""
    tx, params = optimizer(), KIND.make(0)
    opt_state, average = tx.init(params), params
    losses, weights = [], []

    @jax.jit
    def step(params, opt_state, average, batch, rate):
        weight = batch["weight"]
        loss_of = lambda params: (KIND.items(params, batch)[0] * weight).sum() / weight.sum()
        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, p: a + rate * (p - a), average, params)
        return params, opt_state, average, loss

    for n, i in enumerate(APPLIED):
        rate = max((1 - DECAY) / (1 - DECAY ** (n + 1)), 9 / (10 + n))
        params, opt_state, average, loss = step(params, opt_state, average, BATCHES[i], rate)
        losses.append(float(loss))
        weights.append(BATCHES[i]["weight"].sum())
    return params, opt_state, average, np.average(losses, weights=weights)


def make(**options):
    def loss_fn(model, batch):
        batch = {**batch, "x": batch["x"].astype(model["w"].dtype)}
        return KIND.items(model, batch)[0].astype(jnp.float32)

    return fb.four_beats(
        loss_fn, optimizer(), metrics=fb.metrics.Mean("loss"), guard=guard.skip(guard.Spike(100, 10.0)),
        ema=DECAY, schedule=SCHEDULE, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("accumulate", "precision", "steps_per_call"),
    [(1, "float32", 1), (4, "float32", 1), (4, "float32", 4), (2, "bfloat16", 1), (8, "float16", 4)],
)
def test_everything_on_is_the_loop_over_the_batches_that_count(accumulate, precision, steps_per_call):
    beats = make(accumulate=accumulate, precision=precision)
    state = beats.init(KIND.make(0))
    step = fb.compile(beats.train_step, on_recompile="raise")
    rates = []
    if steps_per_call == 1:
        for batch in BATCHES:
            state, logs = step(state, batch)
            rates.append(float(logs["learning_rate"]))
        np.testing.assert_allclose(rates, [float(SCHEDULE(n)) for n in (0, 1, 2, 2, 2, 3)], rtol=1e-6)
    else:
        for block in (BATCHES[:4], BATCHES[4:]):
            state, logs = step(state, fb.Block.stack(block, size=4))
        np.testing.assert_allclose(logs["learning_rate"], SCHEDULE(3), rtol=1e-6)
    assert step.num_compilations == 1
    params, opt_state, average, loss = by_hand()
    close = {"atol": 1e-6, "rtol": 1e-5} if precision == "float32" else {"atol": 5e-3, "rtol": 5e-2}
    if precision == "float32":
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), state.opt_state, opt_state)
    for ours, theirs in ((state.params, params), (state.ema, average)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), ours, theirs)
    np.testing.assert_allclose(state.metrics.compute(), loss, rtol=close["rtol"])
    assert (int(state.step), int(state.num_updates)) == (len(BATCHES), len(APPLIED))
    assert (int(state.guard.num_bad), int(state.guard.step)) == (1, 3)
    with pytest.raises(guard.BadStepError, match="step 3 was skipped"):
        guard.check(state)


def test_a_run_stopped_anywhere_goes_on_to_the_same_bits():
    beats = make(accumulate=2, precision="float16")
    step = fb.compile(beats.train_step, donate=False)
    states = [beats.init(KIND.make(0))]
    for batch in BATCHES:
        states.append(step(states[-1], batch)[0])
    for cut in (2, 3, 4):
        leaves, structure = jax.tree.flatten(states[cut])
        state = jax.tree.unflatten(structure, [jnp.asarray(np.array(leaf)) for leaf in leaves])
        for batch in BATCHES[cut:]:
            state, _ = step(state, batch)
        assert_bit_equal(state, states[-1])
    assert step.num_compilations == 1
