"""What the logs of a step hold, and that a number that nobody reads costs nothing."""

import jax
import jax.numpy as jnp
import optax
import pytest

import fourbeat as fb
from tests.kinds import KINDS, assert_bit_equal

KIND = KINDS["transformer"]
GUARD = fb.guard.skip()


def beats_of(**options):
    return fb.four_beats(KIND.items, optax.adam(1e-2), **options)


def test_the_logs_hold_what_was_asked_for_and_training_stays_as_it_is():
    both = [beats_of(), beats_of(logs=("weight", "loss"))]
    states = [beats.init(KIND.make(0)) for beats in both]
    steps = [jax.jit(beats.train_step) for beats in both]
    for seed in range(3):
        batch = KIND.batch(seed, 4)
        (states[0], logs), (states[1], fewer) = (
            step(state, batch) for step, state in zip(steps, states, strict=True)
        )
        assert list(logs) == ["grad_norm", "loss", "weight"]
        assert list(fewer) == ["loss", "weight"]
        assert_bit_equal(fewer, {name: logs[name] for name in fewer})
    assert_bit_equal(states[0], states[1])


def operations(logs):
    """Floating-point operations of the compiled step, as XLA counts them; large arrays."""
    beats = fb.four_beats(lambda model, batch: (model["w"] * batch["x"]) ** 2, optax.sgd(0.1), logs=logs)
    model, batch = {"w": jnp.ones(100_000)}, {"x": jnp.ones((1, 100_000))}
    compiled = jax.jit(beats.train_step).lower(jax.eval_shape(lambda: beats.init(model)), batch).compile()
    return compiled.cost_analysis()["flops"]


def test_a_norm_that_is_not_logged_is_not_computed():
    everything, by_default, loss, nothing = map(operations, (("loss", "grad_norm"), None, ("loss",), ()))
    assert everything == by_default
    assert loss < everything - 150_000  # a square and a sum of each gradient
    assert nothing < loss - 50_000


@pytest.mark.parametrize("logs", [(), ("finite", "update_norm")])
def test_a_guard_has_its_norms_whatever_is_logged(logs):
    loss_fn = lambda model, batch: model["w"] * batch["x"]
    beats = fb.four_beats(loss_fn, optax.sgd(0.1), guard=GUARD, logs=logs)
    state = beats.init({"w": jnp.ones(())})
    after, seen = jax.jit(beats.train_step)(state, {"x": jnp.array([1.0, jnp.inf])})
    assert sorted(seen) == sorted(logs)
    assert_bit_equal(after.params, state.params)
    assert int(after.guard.num_bad) == 1


def test_a_loss_scale_has_its_norm_whatever_is_logged():
    loss_fn = lambda model, batch: model["w"] * batch["x"]
    beats = fb.four_beats(loss_fn, optax.sgd(0.1), precision="float16", logs=("loss_scale",))
    state = beats.init({"w": jnp.ones(())})
    after, seen = jax.jit(beats.train_step)(state, {"x": jnp.array([1.0, jnp.inf])})
    assert list(seen) == ["loss_scale"]
    assert_bit_equal(after.params, state.params)


REFUSED = {
    "unknown": (
        {"logs": ("loss", "accuracy")},
        "logs names 'accuracy', and these beats have no such number. They have loss, grad_norm, weight, "
        "learning_rate.",
    ),
    "of a guard": (
        {"logs": ["finite"], "precision": "bfloat16"},
        "logs names 'finite', and these beats have no such number. They have loss, grad_norm, weight, "
        "learning_rate.",
    ),
    "unknown beside a guard": (
        {"logs": ["norm"], "guard": GUARD, "precision": "float16"},
        "logs names 'norm', and these beats have no such number. They have loss, grad_norm, weight, "
        "learning_rate, finite, update_norm, loss_scale.",
    ),
    "a string": (
        {"logs": "loss"},
        "logs is 'loss'. Pass the names that a step is to log, such as ('loss',), or None.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_names(case):
    options, text = REFUSED[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        beats_of(**options)
    assert str(caught.value) == text


def test_a_rate_that_nothing_tells_is_refused_in_the_step():
    beats = fb.four_beats(
        lambda model, batch: model["w"] * batch["x"], optax.sgd(0.1), logs=["learning_rate"]
    )
    with pytest.raises(ValueError) as caught:
        beats.train_step(beats.init({"w": jnp.ones(())}), {"x": jnp.ones(2)})
    assert str(caught.value).startswith(
        "logs names 'learning_rate', and the optimizer does not tell it. Give four_beats the schedule that "
        "the optimizer was given, schedule=, or make it with optax.inject_hyperparams."
    )
