"""Law 9: bad numbers stay out, and the step, the leaf and the examples are named."""

import functools
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat import guard
from tests.kinds import KINDS, OPTIMIZERS, assert_bit_equal, assert_parameters_as_without

SIZE = 8


def make_beats(kind, tx, **options):
    def loss_fn(model, batch):
        loss, logits = KINDS[kind].items(model, batch)
        return loss, {"logits": logits, "labels": batch["label"]}

    metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())
    return fb.four_beats(loss_fn, tx, metrics=metrics, **options)


def spoiled(batch, places, value=np.nan):
    x = batch["x"].copy()
    x[places, 0] = value
    return {**batch, "x": x}


def train(kind, optimizer, num_steps=4, **options):
    beats = make_beats(kind, OPTIMIZERS[optimizer](), **options)
    step = fb.compile(beats.train_step, on_recompile="raise")
    state = beats.init(KINDS[kind].make(0))
    for seed in range(num_steps):
        state, logs = step(state, KINDS[kind].batch(seed, SIZE))
    return state, logs


ALL_ROWS = bool(os.environ.get("FOURBEAT_THOROUGH"))  # those that tell instruction sets apart, too


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [("cnn", "chain"), ("transformer", "adamw"), ("dict", "sgd")] + ALL_ROWS * [("bfloat16 cnn", "adamw")],
)
def test_a_guard_that_never_fires_and_an_average_leave_every_bit(kind, optimizer):
    alone, _ = train(kind, optimizer)
    watched, logs = train(kind, optimizer, guard=guard.skip(guard.Spike(2, 100.0)), ema=0.9)
    assert bool(logs["finite"])
    assert_parameters_as_without(watched, alone)
    assert int(watched.num_updates) == 4


def wide_loss(model, batch):
    """Cross-entropy of a network with an embedding and a layer of over 2**16 weights each."""
    x = batch["x"].astype(model["w1"].dtype)
    hidden = model["embed"][batch["token"]] + jnp.tanh(x @ model["w1"] + model["b1"])
    logits = hidden @ model["w2"] * jnp.exp(model["scale"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), batch["label"])
    return losses, {"logits": logits, "labels": batch["label"]}


def wide_model():
    normal = lambda seed, *shape: 0.1 * jax.random.normal(jax.random.key(seed), shape)
    embed, w1, w2 = normal(0, 520, 128), normal(1, 600, 128), normal(2, 128, 7)
    return {"embed": embed, "w1": w1, "b1": jnp.zeros(128), "w2": w2, "scale": jnp.zeros(7)}


def wide_batch(seed):
    random = np.random.RandomState(seed)
    x = random.standard_normal((SIZE, 600)).astype(np.float32)
    return {"x": x, "token": random.randint(0, 520, SIZE), "label": random.randint(0, 7, SIZE)}


LARGE = {
    "adamw accumulated": (OPTIMIZERS["adamw"], {"accumulate": 2}),
    "rmsprop bfloat16": (OPTIMIZERS["rmsprop"], {"precision": "bfloat16"}),
}
if ALL_ROWS:
    LARGE |= {
        "adamw": (OPTIMIZERS["adamw"], {}),
        "chain": (OPTIMIZERS["chain"], {}),
        "muon": (lambda: optax.contrib.muon(1e-2), {}),
    }


@pytest.mark.parametrize(("make_tx", "options"), LARGE.values(), ids=LARGE)
def test_a_guard_leaves_every_bit_of_large_arrays_too(make_tx, options):
    def trained(**more):
        beats = fb.four_beats(wide_loss, make_tx(), **options, **more)
        step, state = fb.compile(beats.train_step, on_recompile="raise"), beats.init(wide_model())
        for seed in range(3):
            state, _ = step(state, wide_batch(seed))
        return state

    assert_parameters_as_without(trained(guard=guard.skip(), ema=0.9), trained())


def test_a_large_array_with_a_bad_value_is_named_and_all_is_as_before():
    beats = fb.four_beats(wide_loss, optax.adamw(1e-2), guard=guard.skip(), ema=0.9)
    step = fb.compile(beats.train_step, donate=False)
    before, _ = step(beats.init(wide_model()), wide_batch(0))
    bad = wide_batch(1)
    bad["x"][3, 5] = np.inf
    after, _ = step(before, bad)
    assert_bit_equal(after.replace(step=0, guard=before.guard), before.replace(step=0))
    with pytest.raises(guard.BadStepError, match=r"grads\['w1'\] has \d+ NaN and \d+ Inf among its 76800"):
        guard.check(after)
    overflowing, _ = step(before.replace(lr_scale=jnp.float32(np.inf)), wide_batch(1))
    assert_bit_equal(overflowing.params, before.params)
    with pytest.raises(guard.BadStepError, match=r"params\['b1'\]"):
        guard.check(overflowing)


@pytest.mark.parametrize(("kind", "accumulate"), [("dict", 1), ("cnn", 2)])
def test_a_bad_step_changes_the_step_alone_and_the_run_goes_on_without_it(kind, accumulate):
    beats = make_beats(kind, optax.adamw(1e-2), guard=guard.skip(), ema=0.9, accumulate=accumulate)
    step = fb.compile(beats.train_step, donate=False, on_recompile="raise")
    good = KINDS[kind].batch(0, SIZE)
    before, _ = step(beats.init(KINDS[kind].make(0)), good)
    after, logs = step(before, spoiled(good, [5, 2]))
    assert not logs["finite"]
    assert int(after.step) == 2 and int(after.num_updates) == 1
    assert_bit_equal(after.replace(step=0, guard=before.guard), before.replace(step=0))
    seen = after.guard
    assert (int(seen.num_skipped), int(seen.num_consecutive), int(seen.step)) == (1, 1, 2)
    assert seen.examples.tolist() == [2, 5, -1, -1, -1, -1, -1, -1] and int(seen.num_examples) == 2
    # the key of a step follows from its number, so only what has no key goes on as if nothing had been
    again, _ = step(after, good)
    expected, _ = step(before, good)
    assert_bit_equal(again.params, expected.params)
    assert_bit_equal(again.opt_state, expected.opt_state)
    assert int(again.guard.num_consecutive) == 0 and int(again.guard.longest) == 1


def test_a_block_is_finite_where_all_of_its_steps_are():
    beats = make_beats("dict", optax.adam(1e-2), guard=guard.skip())
    batches = [KINDS["dict"].batch(seed, SIZE) for seed in range(4)]
    batches[1] = spoiled(batches[1], [0])
    fused, logs = fb.compile(beats.train_step)(
        beats.init(KINDS["dict"].make(0)), fb.Block.stack(batches, size=6)
    )
    assert not logs["finite"] and np.isfinite(logs["loss"])
    single, step = beats.init(KINDS["dict"].make(0)), fb.compile(beats.train_step)
    for batch in batches:
        single, _ = step(single, batch)
    assert_bit_equal(fused, single)
    assert int(fused.num_updates) == 3 and int(fused.guard.step) == 2


def named(loss_fn, batches, tx=None, **options):
    beats = fb.four_beats(loss_fn, tx or optax.sgd(0.1), guard=guard.skip(**options))
    state = beats.init({"conv2": {"bias": jnp.zeros(2), "kernel": jnp.ones((3, 2))}})
    step = jax.jit(beats.train_step)
    for batch in batches:
        state, _ = step(state, batch)
    return state


def product(model, batch):
    return (batch["x"] @ model["conv2"]["kernel"] + model["conv2"]["bias"]).sum(1) ** 2


def root_of_kernel(model, batch):
    return batch["x"].sum(1) + jnp.sqrt(model["conv2"]["kernel"] - batch["less"][:, :1]).sum(1)


X = {"x": np.ones((4, 3), np.float32)}


def with_examples(**examples):
    x = X["x"].copy()
    for place, value in examples.items():
        x[int(place[1:]), 1] = value
    return {"x": x}


WHERE = (
    " The state is as before it. Look at batches[{}], or find the operation with "
    "fb.guard.locate(beats, state, batch)."
)
ONCE = " Skipped as bad so far: 1, at most 1 in a row."
TEXTS = {  # by case: the run, what is said of it, the bad batch
    "NaN in an example": (
        lambda: named(product, [X, with_examples(r1=np.nan), X]),
        "step 2 was skipped: grads['conv2']['bias'] has 2 NaN and 0 Inf among its 2 values (loss nan, "
        "gradient norm nan). Bad examples of its batch: 1." + ONCE,
        1,
    ),
    "Inf in two examples, twice": (
        lambda: named(product, [with_examples(r3=np.inf, r0=-np.inf)] * 2),
        "step 2 was skipped: grads['conv2']['bias'] has 2 NaN and 0 Inf among its 2 values (loss inf, "
        "gradient norm nan). Bad examples of its batch: 0, 3. Skipped as bad so far: 2, at most 2 in a row.",
        1,
    ),
    "a gradient alone": (
        lambda: named(lambda m, b: (m["conv2"]["kernel"][0, 0] * 0) ** 0.5 + b["x"][:, 0], [X]),
        "step 1 was skipped: grads['conv2']['kernel'] has 1 NaN and 0 Inf among its 6 values (loss 1, "
        "gradient norm nan). No example of its batch stands out." + ONCE,
        0,
    ),
    "an update alone": (
        lambda: named(product, [X], tx=optax.sgd(1e38)),
        "step 1 was skipped: params['conv2']['bias'] has 0 NaN and 2 Inf among its 2 values (loss 36, "
        "gradient norm 33.9411). No example of its batch stands out." + ONCE,
        0,
    ),
    "the loss alone": (
        lambda: named(lambda m, b: product(m, b) + np.float32(np.nan), [X]),
        "step 1 was skipped: the loss is nan, the gradients and the update are finite (loss nan, gradient "
        "norm 33.9411). Bad examples of its batch: 0, 1, 2, 3." + ONCE,
        0,
    ),
    "many examples": (
        lambda: named(product, [{"x": np.full((10, 3), np.nan, np.float32)}]),
        "step 1 was skipped: grads['conv2']['bias'] has 2 NaN and 0 Inf among its 2 values (loss nan, "
        "gradient norm nan). Bad examples of its batch: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more." + ONCE,
        0,
    ),
    "a spike": (
        lambda: named(
            lambda m, b: (m["conv2"]["bias"] * b["x"][:, :2]).sum(1),
            [X] * 3 + [{"x": 100 * X["x"]}],
            tx=optax.sgd(0.0),
            spike=guard.Spike(window=3, factor=5.0),
        ),
        "step 4 was skipped: its numbers are finite but exploded or overflow in the norm (loss 0, gradient "
        "norm 141.421). No example of its batch stands out." + ONCE,
        3,
    ),
}


@functools.cache
def state_of(case):
    """The state after the run of a case."""
    return TEXTS[case][0]()


@pytest.mark.parametrize("case", TEXTS)
def test_check_names_step_leaf_and_examples(case):
    _, text, batch = TEXTS[case]
    with pytest.raises(guard.BadStepError) as caught:
        guard.check(state_of(case))
    assert str(caught.value) == text + WHERE.format(batch)


def test_check_allows_so_many_bad_steps_in_a_row():
    bad = with_examples(r1=np.nan)
    guard.check(named(product, [X, X]))
    state = named(product, [bad, bad, X, bad, X])
    guard.check(state, max_consecutive=2)
    with pytest.raises(guard.BadStepError):
        guard.check(state, max_consecutive=1)


@pytest.mark.parametrize("case", TEXTS)
def test_a_report_says_what_check_raises(case):
    _, text, batch = TEXTS[case]
    report = guard.check(state_of(case), raises=False)
    assert not report.ok
    assert str(report) == text + WHERE.format(batch)
    assert report.step == batch + 1
    assert str(report.examples)[1:-1].rstrip(",") in text or not report.examples
    with pytest.raises(guard.BadStepError, match=f"^{re.escape(str(report))}$") as raised:
        report.raise_if_bad()
    assert raised.value.report is report


def test_a_report_is_ok_where_no_more_was_skipped_than_allowed():
    bad = with_examples(r1=np.nan)
    report = guard.check(named(product, [X, X]))
    assert (report.ok, report.num_bad, report.longest, report.examples) == (True, 0, 0, ())
    assert str(report) == "No step was skipped as bad."
    report.raise_if_bad()
    report = guard.check(named(product, [bad, bad, X, bad, X]), max_consecutive=2)
    assert (report.ok, report.num_bad, report.longest, report.step) == (True, 3, 2, 4)
    assert str(report).startswith("step 4 was skipped: ")


@pytest.mark.parametrize("sign", [1, -1])
def test_a_spike_is_judged_against_the_running_mean_whatever_its_sign(sign):
    """The loss of a model that does not learn is its batch's; gradients stay the same."""

    def loss_fn(model, batch):
        return sign * batch["level"] + model["w"]

    beats = fb.four_beats(loss_fn, optax.sgd(0.0), guard=guard.skip(guard.Spike(window=4, factor=3.0)))
    state = beats.init({"w": jnp.zeros(())})
    step = jax.jit(beats.train_step)
    means, skipped = [], []
    levels = [9.0, 2.0, 1.0, 1.5, 1.0, 80.0, 1.0, -80.0, 2.0, 80.0]
    for level in levels:
        before = int(state.guard.num_skipped)
        state, logs = step(state, {"level": np.full(2, level, np.float32)})
        assert bool(logs["finite"])
        skipped.append(int(state.guard.num_skipped) > before)
    expected = []
    for level in levels:  # by hand
        value = sign * level
        n = len(means)
        if n >= 4:
            mean, size = means[-1]
            if value - mean > 2 * size:
                expected.append(True)
                continue
        rate = max(1 / 4, 1 / (n + 1))
        mean, size = means[-1] if means else (0.0, 0.0)
        means.append((mean + rate * (value - mean), size + rate * (abs(value) - size)))
        expected.append(False)
    assert skipped == expected
    assert any(skipped)


def test_examples_of_no_weight_are_never_named():
    batch = with_examples(r2=np.nan) | {"weight": np.array([1, 1, 1, 1], np.float32)}
    assert named(product, [batch]).guard.examples.tolist()[:2] == [2, -1]
    masked = X | {"weight": np.array([1, 1, 0, 1], np.float32)}
    state = named(lambda m, b: jnp.where(jnp.arange(4) == 2, jnp.nan, product(m, b)), [masked])
    assert int(state.guard.num_bad) == 0


def test_the_host_reads_nothing_while_a_guard_works():
    beats = make_beats("dict", optax.adam(1e-2), guard=guard.skip(), ema=0.9)
    step = fb.compile(beats.train_step)
    batches = [KINDS["dict"].batch(0, SIZE), spoiled(KINDS["dict"].batch(0, SIZE), [1])]
    state, _ = step(beats.init(KINDS["dict"].make(0)), batches[0])
    with fb.testing.no_host_reads():
        for batch in batches * 2:
            state, _ = step(state, batch)


ERRORS = {
    "no guard": (
        lambda: guard.check(fb.four_beats(product, optax.sgd(0.1)).init({"w": jnp.ones(1)})),
        "cannot check: this state has no guard. Pass four_beats(..., guard=fb.guard.skip()) and start from "
        "its init.",
    ),
    "another state": (
        lambda: fb.four_beats(product, optax.sgd(0.1), guard=guard.skip()).train_step(
            fb.four_beats(product, optax.sgd(0.1)).init(
                {"conv2": {"bias": jnp.zeros(2), "kernel": jnp.ones((3, 2))}}
            ),
            X,
        ),
        "these beats need state.guard, and it is None: the state is from the init of other beats. Start from "
        "this beats.init, and hand on what you keep: "
        "beats.init(model).replace(params=state.params, opt_state=state.opt_state).",
    ),
    "not a guard": (
        lambda: fb.four_beats(product, optax.sgd(0.1), guard=True),
        "guard is True. Pass fb.guard.skip(), or None.",
    ),
    "not a spike": (
        lambda: guard.skip(10),
        "spike is 10. Pass fb.guard.Spike(window=100, factor=10.0), or None.",
    ),
    "window": (
        lambda: guard.Spike(window=0, factor=2.0),
        "Spike: window=0 must be an int of at least 1, in steps.",
    ),
    "factor": (
        lambda: guard.Spike(window=5, factor=1.0),
        "Spike: factor=1.0 must be a finite number above 1.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_texts(case):
    call, text = ERRORS[case]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value) == text
