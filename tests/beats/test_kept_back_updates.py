"""Optimizers that keep updates back: `num_updates` and the average count those that came through."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from tests.kinds import KINDS, assert_bit_equal

KIND = KINDS["dict"]
BAD = (4, 9)  # steps with a NaN, of 24


def multi_steps(every):
    return optax.MultiSteps(optax.adam(1e-2), every)


def first_alone(params):
    return {"w": "a", "b": "b"}


OPTIMIZERS = {
    "every third": lambda: multi_steps(3),
    "its transformation": lambda: multi_steps(3).gradient_transformation(),
    "a growing number": lambda: multi_steps(lambda step: 1 + step // 2),
    "in a chain": lambda: optax.chain(
        optax.clip_by_global_norm(1.0), optax.chain(multi_steps(4).gradient_transformation())
    ),
    "skipping": lambda: optax.MultiSteps(optax.sgd(0.1), 2, should_skip_update_fn=optax.skip_not_finite),
    "in every group": lambda: optax.partition(
        {name: multi_steps(k).gradient_transformation() for name, k in (("a", 2), ("b", 3))}, first_alone
    ),
    "in one group": lambda: optax.partition(
        {"a": multi_steps(2).gradient_transformation(), "b": optax.sgd(0.1)}, first_alone
    ),
    "masked": lambda: optax.masked(multi_steps(2).gradient_transformation(), {"w": True, "b": True}),
    "with hyperparameters": lambda: optax.inject_hyperparams(
        lambda learning_rate: optax.MultiSteps(optax.sgd(learning_rate), 2).gradient_transformation()
    )(learning_rate=0.1),
    "apply_every": lambda: optax.chain(optax.apply_every(4), optax.sgd(0.1)),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.adam(1e-2), max_consecutive_errors=5),
    "every second of the finite": lambda: optax.apply_if_finite(multi_steps(2).gradient_transformation(), 5),
    "keeps nothing back": lambda: optax.adam(1e-2),
}


def batch(seed, *, is_bad):
    made = KIND.batch(seed, 8)
    return made | {"x": np.full_like(made["x"], np.nan) if is_bad else made["x"]}


def loss_fn(model, batch):
    return KIND.items(model, batch)[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_num_updates_counts_the_steps_that_moved_a_parameter(name):
    is_safe = "finite" in name or name == "skipping"
    beats = fb.four_beats(loss_fn, OPTIMIZERS[name](), ema=0.9)
    state, moved = beats.init(KIND.make(0)), 0
    step = fb.compile(beats.train_step, donate=False, on_recompile="raise")
    ema = state.ema
    for seed in range(24):
        after, _ = step(state, batch(seed, is_bad=is_safe and seed in BAD))
        is_moved = any(
            not np.array_equal(one, other)
            for one, other in zip(jax.tree.leaves(state.params), jax.tree.leaves(after.params), strict=True)
        )
        if is_moved:
            ema = fb.beats.ema.updated_ema(0.9, ema, after.params, jnp.int32(moved))
        moved += is_moved
        assert int(after.num_updates) == moved, seed
        for one, other in zip(jax.tree.leaves(after.ema), jax.tree.leaves(ema), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)
        state = after
    assert moved == {"every third": 8, "keeps nothing back": 24, "apply_if_finite": 22}.get(name, moved)


def test_multi_steps_leaves_every_bit_and_a_guard_counts_too():
    tx = multi_steps(2)
    params, opt_state = KIND.make(0), tx.init(KIND.make(0))

    @jax.jit
    def by_hand(params, opt_state, batch):
        grads = jax.grad(lambda p: KIND.items(p, batch)[0].mean())(params)
        norm = optax.tree.norm(grads)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, norm

    plain, guarded = (fb.four_beats(loss_fn, multi_steps(2), guard=g) for g in (None, fb.guard.skip()))
    state, safe = plain.init(KIND.make(0)), guarded.init(KIND.make(0))
    step, safe_step = fb.compile(plain.train_step), fb.compile(guarded.train_step)
    for seed in range(6):
        params, opt_state, _ = by_hand(params, opt_state, KIND.batch(seed, 8))
        state, _ = step(state, KIND.batch(seed, 8))
        safe, _ = safe_step(safe, batch(seed, is_bad=seed in (2, 4)))
    assert_bit_equal((state.params, state.opt_state), (params, opt_state))
    assert (int(state.num_updates), int(safe.num_updates)) == (3, 2)
    assert (int(safe.step), int(safe.guard.num_bad)) == (6, 2)


def test_a_schedule_is_logged_by_the_updates_that_came_through():
    schedule = lambda count: 0.1 / (1 + count)
    beats = fb.four_beats(loss_fn, multi_steps(2), schedule=schedule)
    state, rates = beats.init(KIND.make(0)), []
    step = fb.compile(beats.train_step)
    for seed in range(6):
        state, logs = step(state, KIND.batch(seed, 8))
        rates.append(float(logs["learning_rate"]))
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.05, 0.05, 0.1 / 3, 0.1 / 3], rtol=1e-6)
