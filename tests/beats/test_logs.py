"""What the logs of a step hold, and that a number that nobody reads costs nothing."""

import jax
import jax.numpy as jnp
import numpy as np
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


WEIGHT = np.array([1, 2, 0, 0.5, 3, 0, 0, 0], np.float32)  # a microbatch of four has weight 0 in pairs
ITEMS = np.array([1, -2, np.nan, 4, 5, np.inf, 7, 8], np.float32)
TOKENS = np.arange(24, dtype=np.float32).reshape(8, 3) % 5


def with_parts(model, batch):
    """A loss of two parts, with aux of many shapes."""
    kl = batch["kl"] + 0 * model["w"]
    share = (batch["kl"] * batch.get("weight", 1.0)).sum()
    parts = {
        "kl": kl,
        "large": batch["kl"] > 1,
        "tokens": batch["tokens"],
        "l2": model["w"] ** 2,
        "own": share,
    }
    return model["w"] * batch["x"] + 0.1 * kl, parts | {"mean": batch["x"].mean(), "name": "vae"}


def batch_of(weight):
    columns = {"x": np.ones(8, np.float32), "kl": ITEMS, "tokens": TOKENS}
    if weight is None:
        return columns | {"kl": np.nan_to_num(ITEMS, posinf=0)}
    return columns | {"weight": weight}


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_values_of_aux_are_means_by_the_weight_contract(accumulate, weight):
    names = ("loss", "kl", "large", "tokens", "l2")
    beats = [
        fb.four_beats(with_parts, optax.sgd(0.1), accumulate=accumulate, logs=logs) for logs in (names, None)
    ]
    batch = batch_of(weight)
    (after, seen), (plain, _) = (jax.jit(b.train_step)(b.init({"w": jnp.float32(3)}), batch) for b in beats)
    assert sorted(seen) == sorted(names)
    assert_bit_equal(after, plain)
    counted = np.ones(8) if weight is None else weight
    kl = np.where(counted > 0, batch["kl"], 0)
    expected = {
        "kl": np.average(kl, weights=counted),
        "large": np.average(kl > 1, weights=counted),
        "tokens": np.average(TOKENS.mean(1), weights=counted),
        "l2": 9,
        "loss": 3 + 0.1 * np.average(kl, weights=counted),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(seen[name], value, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_line_between_the_beats_uses_aux_of_the_whole_batch(accumulate):
    beats = fb.four_beats(with_parts, optax.sgd(0.1), accumulate=accumulate)
    grads, out = jax.jit(beats.gradient)(beats.init({"w": jnp.float32(3)}), batch_of(None))
    assert_bit_equal(
        [out.aux["kl"], out.aux["tokens"]], [jnp.asarray(batch_of(None)["kl"]), jnp.asarray(TOKENS)]
    )
    assert out.aux["l2"].shape == (() if accumulate == 1 else (4,))
    assert "name" not in out.aux  # a compiled function returns arrays
    assert float(grads["w"]) == 1


def program(logs, accumulate):
    """The optimized program of a step whose aux holds an expensive value."""

    def loss_fn(model, batch):
        return model["w"] * batch["x"], {"dear": jnp.linalg.eigvalsh(batch["square"])[:, 0]}

    beats = fb.four_beats(loss_fn, optax.sgd(0.1), accumulate=accumulate, logs=logs)
    batch = {"x": jnp.ones(4), "square": jnp.ones((4, 3, 3))}
    state = jax.eval_shape(lambda: beats.init({"w": jnp.ones(())}))
    return jax.jit(beats.train_step).lower(state, batch).compile().as_text()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_not_asked_for_is_not_computed(accumulate):
    assert "syevd" in program(("dear",), accumulate)
    assert all("syevd" not in program(logs, accumulate) for logs in (None, ("loss",)))


REFUSED = {
    "unknown": (
        {"logs": ("loss", "accuracy")},
        "logs names 'accuracy', and neither the step nor aux has it. The step has loss, grad_norm, weight, "
        "learning_rate; aux has kl, l2, large, mean, name, own, tokens.",
    ),
    "of a guard": (
        {"logs": ["finite"], "precision": "bfloat16"},
        "logs names 'finite', and neither the step nor aux has it. The step has loss, grad_norm, weight, "
        "learning_rate; aux has kl, l2, large, mean, name, own, tokens.",
    ),
    "unknown beside a guard": (
        {"logs": ["norm"], "guard": GUARD, "precision": "float16", "accumulate": 2},
        "logs names 'norm', and neither the step nor aux has it. The step has loss, grad_norm, weight, "
        "learning_rate, finite, update_norm, loss_scale; aux has kl, l2, large, mean, name, own, tokens.",
    ),
    "a mean beside a weight": (
        {"logs": ["own", "mean"]},
        "aux['mean'] is a scalar, but the batch has a weight column of shape (8,): a mean taken by loss_fn "
        "cannot be weighted any more. Return one value an example: drop the .mean().",
    ),
    "no number": (
        {"logs": ["name"]},
        "logs names 'name', and aux['name'] is a str. A step logs numbers: give it an array of one value an "
        "example, or a scalar.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_names(case):
    options, text = REFUSED[case]
    beats = fb.four_beats(with_parts, optax.sgd(0.1), **options)
    state, step = beats.init({"w": jnp.float32(3)}), fb.compile(beats.train_step)
    with fb.testing.expect_compilations(0), pytest.raises((TypeError, ValueError)) as caught:
        step(state, batch_of(WEIGHT))
    assert str(caught.value) == text


def test_refused_at_once_or_for_what_aux_holds():
    with pytest.raises(TypeError) as caught:
        beats_of(logs="loss")
    assert str(caught.value) == (
        "logs is 'loss'. Pass the names that a step is to log, such as ('loss',), or None."
    )
    batch, model = {"x": jnp.ones(4)}, {"w": jnp.ones(())}
    for aux, logs, text in (
        (
            {"classes": jnp.ones(3)}, ("classes",),
            "aux['classes'] has shape (3,) and the batch has 4 examples: its first axis is not the batch's. "
            "Return one value an example, (4,), or a token, (4, tokens); or reduce it to one scalar for the "
            "batch.",
        ),
        (
            {"grad_norm": jnp.ones(4)}, ("grad_norm",),
            "logs names 'grad_norm', which the step and aux both have. Rename the one in aux.",
        ),
        (
            None, ("kl",),
            "logs names 'kl', and neither the step nor aux has it. The step has loss, grad_norm, weight, "
            "learning_rate; loss_fn returns no aux.",
        ),
    ):  # fmt: skip
        beats = fb.four_beats(lambda m, b, aux=aux: (m["w"] * b["x"], aux), optax.sgd(0.1), logs=logs)
        with pytest.raises(ValueError) as caught:
            beats.train_step(beats.init(model), batch)
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
