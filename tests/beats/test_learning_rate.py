"""The logged learning rate is the one that was applied, whatever else is on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat import guard

SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 1.0, 3, 12)
BATCH = {"x": np.ones((4, 1), np.float32)}
BAD = {"x": np.full((4, 1), np.nan, np.float32)}


def slope(model, batch):
    """Its gradient is 1, so that an update of plain descent shows the learning rate."""
    return model["w"] * batch["x"][:, 0]


OPTIMIZERS = {
    "schedule": (lambda: optax.sgd(SCHEDULE), {"schedule": SCHEDULE}),
    "injected": (lambda: optax.inject_hyperparams(optax.sgd)(learning_rate=SCHEDULE), {}),
    "injected in a chain": (
        lambda: optax.chain(
            optax.clip_by_global_norm(9.0), optax.inject_hyperparams(optax.sgd)(learning_rate=SCHEDULE)
        ),
        {},
    ),
}


def applied_and_logged(optimizer, batches, lr_scale=1.0, **options):
    """What each step moved the parameter by, and the learning rate that it logged."""
    tx, known = OPTIMIZERS[optimizer]
    beats = fb.four_beats(slope, tx(), **known, **options)
    state = beats.init({"w": jnp.zeros(())}).replace(lr_scale=lr_scale)
    step = fb.compile(beats.train_step, donate=False, on_recompile="raise")
    moved, logged = [], []
    for batch in batches:
        before = float(state.params["w"])
        state, logs = step(state, batch)
        moved.append(before - float(state.params["w"]))
        logged.append(float(logs["learning_rate"]))
    return moved, logged


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "options", [{}, {"accumulate": 4}, {"accumulate": 2, "precision": "bfloat16", "ema": 0.9}]
)
def test_the_log_is_what_was_applied_and_accumulation_does_not_advance_it(optimizer, options):
    moved, logged = applied_and_logged(optimizer, [BATCH] * 8, **options)
    np.testing.assert_allclose(logged, [float(SCHEDULE(n)) for n in range(8)], rtol=1e-6)
    np.testing.assert_allclose(moved, logged, atol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_skipped_step_does_not_advance_the_schedule(optimizer):
    batches = [BATCH, BATCH, BAD, BAD, BATCH, BAD, BATCH]
    moved, logged = applied_and_logged(optimizer, batches, guard=guard.skip())
    counts = [0, 1, 2, 2, 2, 3, 3]
    np.testing.assert_allclose(logged, [float(SCHEDULE(n)) for n in counts], rtol=1e-6)
    good = [i for i, batch in enumerate(batches) if batch is BATCH]
    np.testing.assert_allclose(np.array(moved)[good], np.array(logged)[good], atol=1e-6)


@pytest.mark.parametrize("optimizer", ["schedule", "injected"])
def test_the_scale_of_a_controller_is_in_it(optimizer):
    plateau = fb.ReduceOnPlateau(factor=0.5, patience=0).update(-1.0).update(-1.0)
    moved, logged = applied_and_logged(optimizer, [BATCH] * 5, lr_scale=plateau.scale)
    np.testing.assert_allclose(logged, [0.5 * float(SCHEDULE(n)) for n in range(5)], rtol=1e-6)
    np.testing.assert_allclose(moved, logged, atol=1e-6)


def test_a_block_logs_the_rate_of_its_last_step():
    beats = fb.four_beats(slope, optax.sgd(SCHEDULE), schedule=SCHEDULE)
    step = fb.compile(beats.train_step)
    _, logs = step(beats.init({"w": jnp.zeros(())}), fb.Block.stack([BATCH] * 5, size=8))
    np.testing.assert_allclose(logs["learning_rate"], SCHEDULE(4), rtol=1e-6)


def test_where_it_cannot_be_known_it_is_not_there():
    two = optax.multi_transform(
        {
            "slow": optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
            "fast": optax.inject_hyperparams(optax.sgd)(learning_rate=1.0),
        },
        {"w": "slow", "v": "fast"},
    )
    for tx in (optax.sgd(0.1), two):
        beats = fb.four_beats(lambda m, b: m["w"] * m["v"] * b["x"][:, 0], tx)
        _, logs = jax.jit(beats.train_step)(beats.init({"w": jnp.ones(()), "v": jnp.ones(())}), BATCH)
        assert sorted(logs) == ["grad_norm", "loss", "weight"]


def test_a_number_is_no_schedule():
    with pytest.raises(TypeError) as caught:
        fb.four_beats(slope, optax.sgd(0.1), schedule=0.1)
    assert str(caught.value) == (
        "schedule is 0.1. Pass the function of the count of updates that the optimizer was given, such as "
        "optax.warmup_cosine_decay_schedule(...), or None."
    )
