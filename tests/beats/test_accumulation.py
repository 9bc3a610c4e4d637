"""Law 5: accumulation is exact, for every split, ragged weights and microbatches without any."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import fourbeat as fb
from fourbeat.trees.jaxprs import has_convolution
from tests.kinds import KINDS, assert_bit_equal
from tests.oracles.microbatches_by_hand import accumulate_module, accumulate_tree

SIZE = 12
MASKS = {
    "none": None,
    "examples": np.array([1, 0.5, 0, 2, 1, 1, 0, 0, 0, 3, 1, 0.25], np.float32),  # third of four: nothing
    "ragged tokens": np.float32(np.arange(6) < np.array([6, 1, 3, 2, 5, 6, 0, 0, 0, 1, 1, 2])[:, None]),
    "nothing": np.zeros(SIZE, np.float32),
}


def make_batch(kind, mask):
    batch = KINDS[kind].batch(0, SIZE)
    return batch if MASKS[mask] is None else {**batch, "weight": MASKS[mask]}


def make_beats(kind, tx=None, **options):
    def loss_fn(model, batch):
        loss, logits = KINDS[kind].items(model, batch)
        return loss, {"logits": logits, "labels": batch["label"]}

    metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())
    return fb.four_beats(loss_fn, tx or optax.sgd(0.1), metrics=metrics, **options)


@functools.cache
def gradient_of(kind, accumulate=1):
    """Beats and their compiled gradient, one for all rows of the tables."""
    beats = make_beats(kind, accumulate=accumulate)
    return beats, jax.jit(beats.gradient)


def without_dropout(kind):
    model = KINDS[kind].make(0)
    if isinstance(model, nnx.Module):
        for _, module in nnx.iter_modules(model):
            if isinstance(module, nnx.Dropout):
                module.rate = 0.0
            if isinstance(module, nnx.MultiHeadAttention):
                module.dropout_rate = 0.0
    return model


def close(one, other, **tolerance):
    tolerance = {"rtol": 1e-5, "atol": 1e-6} | tolerance
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


@pytest.mark.parametrize(
    ("kind", "mask", "num_microbatches"),
    [("dict", "none", 2), ("dict", "none", 12), ("transformer", "ragged tokens", 4)]
    + [("dict", mask, n) for mask in ("examples", "nothing") for n in (4, 6)],
)
def test_every_split_gives_the_gradient_of_the_whole(kind, mask, num_microbatches):
    batch = make_batch(kind, mask)
    whole, gradient = gradient_of(kind)
    _, gradient_of_split = gradient_of(kind, num_microbatches)
    state = whole.init(without_dropout(kind))
    expected, expected_out = gradient(state, batch)
    grads, out = gradient_of_split(state, batch)
    close(grads, expected)
    close((out.loss, out.weight), (expected_out.loss, expected_out.weight))
    close(out.metrics.compute(), expected_out.metrics.compute())
    assert jax.tree.structure(out) == jax.tree.structure(expected_out)


@pytest.mark.parametrize(
    ("kind", "mask", "num_microbatches"),
    [("cnn", "examples", 4), ("bfloat16 cnn", "none", 2), ("transformer", "none", 4)],
)
@pytest.mark.filterwarnings("ignore::fourbeat.beats.PaddingInStatisticsWarning")
def test_statistics_and_random_state_are_those_of_microbatches_one_after_the_other(
    kind, mask, num_microbatches
):
    batch = make_batch(kind, mask)
    beats, gradient = gradient_of(kind, num_microbatches)
    grads, out = gradient(beats.init(KINDS[kind].make(0)), batch)
    expected, rest, loss = accumulate_module(KINDS[kind].make(0), KINDS[kind].items, batch, num_microbatches)
    tolerance = {"rtol": 0.05, "atol": 0.02} if kind == "bfloat16 cnn" else {}
    widened = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (grads, out.loss))
    close(widened, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (expected, loss)), **tolerance)
    close(out.rest, rest, **tolerance)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.lists(st.sampled_from([0.0, 0.0, 0.25, 1.0, 7.0]), min_size=SIZE, max_size=SIZE))
def test_any_weights_give_the_gradient_written_by_hand(weight):
    kind = KINDS["dict"]
    batch = {**kind.batch(0, SIZE), "weight": np.array(weight, np.float32)}
    beats, gradient = gradient_of("dict", 6)
    grads, out = gradient(beats.init(kind.make(0)), batch)
    expected, loss = accumulate_tree(kind.make(0), kind.items, batch)
    close(grads, expected)
    close(out.loss, loss)


def test_ragged_tokens_count_alike_whichever_microbatch_they_are_in():
    """The mean of the microbatches' means would weigh the second example's one token as the first's three."""
    x = np.array([[1.0, 2.0, 3.0], [100.0, 0.0, 0.0]], np.float32)
    mask = np.array([[1, 1, 1], [1, 0, 0]], np.float32)
    for accumulate in (1, 2):
        beats = fb.four_beats(lambda model, b: model["w"] * b["x"], optax.sgd(0.1), accumulate=accumulate)
        grads, out = jax.jit(beats.gradient)(beats.init({"w": jnp.ones(())}), {"x": x, "weight": mask})
        assert float(grads["w"]) == float(out.loss) == (1 + 2 + 3 + 100) / 4 != ((1 + 2 + 3) / 3 + 100) / 2
        assert float(out.weight) == 4


def test_a_short_last_batch_is_no_short_window():
    """17 examples in batches of 12: the last has 5, its microbatches of 3 hold 3, 2, 0 and 0 of them."""
    kind = KINDS["dict"]
    columns = kind.batch(0, 17)
    batches = list(fb.data.Arrays(**columns).batches(12))
    beats, gradient = gradient_of("dict", 4)
    state = beats.init(kind.make(0))
    for batch, rows in zip(batches, (slice(12), slice(12, None)), strict=True):
        grads, out = gradient(state, batch)
        expected, loss = accumulate_tree(kind.make(0), kind.items, {k: v[rows] for k, v in columns.items()})
        close(grads, expected)
        close(out.loss, loss)
    assert float(out.weight) == 5


PARTS = {
    "alone": {},
    "average": {"ema": 0.9},
    "float16": {"precision": "float16"},
    "all": {"guard": fb.guard.skip(fb.guard.Spike(2, 9.0)), "ema": 0.9, "precision": "float16"},
}


@pytest.mark.parametrize(
    ("kind", "accumulate", "parts"),
    [("dict", 1, parts) for parts in PARTS] + [("cnn", 1, "alone"), ("cnn", 2, "alone")],
)
@pytest.mark.filterwarnings("ignore::fourbeat.beats.PaddingInStatisticsWarning")
@pytest.mark.filterwarnings("ignore::fourbeat.precision.PrecisionWarning")
def test_a_batch_of_no_weight_changes_nothing_but_the_step(kind, accumulate, parts):
    beats = make_beats(kind, optax.adamw(1e-2), accumulate=accumulate, **PARTS[parts])
    step = fb.compile(beats.train_step, donate=False)
    weight = np.ones(SIZE, np.float32)
    before, _ = step(beats.init(KINDS[kind].make(0)), {**KINDS[kind].batch(1, SIZE), "weight": weight})
    after, logs = step(before, {**KINDS[kind].batch(0, SIZE), "weight": 0 * weight})
    assert (int(after.step), int(after.num_updates), int(before.num_updates)) == (2, 1, 1)
    guard = before.guard
    if guard is not None:
        assert int(after.guard.num_skipped) == 1 and int(after.guard.num_bad) == 0
    assert_bit_equal(after.replace(step=0, guard=guard), before.replace(step=0))
    assert logs["loss"] == logs["weight"] == logs["grad_norm"] == 0
    assert step.num_compilations == 1


def test_a_first_batch_of_no_weight_is_no_update_of_the_average_and_the_schedule():
    """Plain descent keeps no count of its own; the initial parameters weigh nothing in the average."""
    kind, schedule = KINDS["dict"], optax.linear_schedule(0.1, 0.0, 4)
    ours = make_beats("dict", optax.sgd(0.1), ema=0.9, schedule=schedule)
    state, nothing = ours.init(kind.make(0)), np.zeros(SIZE, np.float32)
    logged = []
    for weight in (nothing, nothing, nothing + 1, nothing, nothing + 1):
        state, logs = jax.jit(ours.train_step)(state, {**kind.batch(0, SIZE), "weight": weight})
        logged.append(float(logs["learning_rate"]))
        if int(state.num_updates) == 1:
            assert_bit_equal(state.ema, state.params)
    np.testing.assert_allclose(logged, [0.1, 0.1, 0.1, 0.075, 0.075], rtol=1e-6)
    assert (int(state.step), int(state.num_updates)) == (5, 2)


def test_a_loop_that_moves_the_step_leaves_the_count_of_updates():
    beats = make_beats("dict", optax.adam(1e-2))
    state = beats.init(KINDS["dict"].make(0)).replace(step=100)
    state, _ = jax.jit(beats.train_step)(state, KINDS["dict"].batch(0, SIZE))
    assert (int(state.step), int(state.num_updates)) == (101, 1)


def test_one_tick_is_one_update_and_the_schedule_counts_it_so():
    beats = make_beats("dict", optax.adamw(optax.linear_schedule(0, 1, 10)), accumulate=4)
    state = beats.init(KINDS["dict"].make(0))
    for seed in range(3):
        state, _ = jax.jit(beats.train_step)(state, KINDS["dict"].batch(seed, SIZE))
    assert int(state.step) == int(state.num_updates) == 3
    assert {int(count) for _, count in optax.tree.get_all_with_path(state.opt_state, "count")} == {3}


def test_the_key_of_a_microbatch_follows_from_the_steps():
    def loss_fn(model, batch, key):
        return model["w"] * batch["x"] * jax.random.normal(key, batch["x"].shape)

    def init(beats):
        return beats.init({"w": jnp.ones(())}, key=3)

    beats = fb.four_beats(loss_fn, optax.sgd(0.1), accumulate=2, rolled=False)
    x = np.arange(1, 5, dtype=np.float32)
    _, out = jax.jit(beats.gradient)(init(beats), {"x": x})
    step_key = jax.random.fold_in(jax.random.key(3), 0)
    noise = [np.asarray(jax.random.normal(jax.random.fold_in(step_key, i), (2,))) for i in range(2)]
    np.testing.assert_allclose(out.loss, (x * np.concatenate(noise)).mean(), rtol=1e-6)
    rolled = fb.four_beats(loss_fn, optax.sgd(0.1), accumulate=2, rolled=True)
    _, rolled_out = jax.jit(rolled.gradient)(init(rolled), {"x": x})
    np.testing.assert_allclose(rolled_out.loss, out.loss, rtol=1e-6)


def test_a_map_sees_the_whole_batch_with_the_steps_key():
    def augment(batch, key):
        return {"x": batch["x"] + jax.random.normal(key, batch["x"].shape) + batch["x"].mean()}

    data = fb.data.Arrays(x=np.arange(8, dtype=np.float32)).map(augment)
    batch = data.batches(8, shuffle=True, seed=1, remainder="drop")[3]
    outs = []
    for accumulate in (1, 2):
        beats = fb.four_beats(lambda model, b: model["w"] * b["x"], optax.sgd(0.1), accumulate=accumulate)
        outs.append(jax.jit(beats.gradient)(beats.init({"w": jnp.ones(())}), batch)[0])
    close(*outs)


def test_rolled_but_for_convolutions_on_cpu():
    def loops(kind, **options):
        beats = make_beats(kind, accumulate=2, **options)
        jaxpr = jax.make_jaxpr(beats.gradient)(beats.init(KINDS[kind].make(0)), KINDS[kind].batch(0, SIZE))
        return any(equation.primitive.name == "scan" for equation in jaxpr.eqns)

    assert jax.default_backend() != "cpu" or not loops("cnn")
    assert loops("cnn", rolled=True)
    assert loops("dict")
    assert not loops("dict", rolled=False)
    image = np.ones((1, 8, 8, 1), np.float32)
    model = KINDS["cnn"].make(0)
    traced = jax.make_jaxpr(jax.jit(jax.checkpoint(lambda x: model.conv(x))))(image)
    assert has_convolution(traced.jaxpr)


@pytest.mark.parametrize("rolled", [True, False])
def test_the_memory_of_a_step_falls_with_the_microbatches(rolled):
    def temporary_bytes(accumulate):
        def loss_fn(model, batch):
            return (jnp.tanh(jnp.tanh(batch["x"] @ model["a"]) @ model["b"]) ** 2).sum(-1)

        beats = fb.four_beats(loss_fn, optax.sgd(0.1), accumulate=accumulate, rolled=rolled)
        state = beats.init({"a": jnp.ones((8, 256)), "b": jnp.ones((256, 64))})
        lowered = fb.compile(beats.train_step).lower(state, {"x": np.ones((4096, 8), np.float32)})
        return lowered.compile().memory_analysis().temp_size_in_bytes

    one, two, eight = map(temporary_bytes, (1, 2, 8))
    assert two < 0.75 * one
    assert eight < 0.45 * two


ERRORS = {
    "examples do not divide": (
        lambda: run(3, {"x": np.ones(128)}),
        "cannot split batch into 3 microbatches: batch['x'] has 128 examples and 128 is not divisible by 3.\n"
        "Use accumulate=2, 4, 8, 16, 32, 64, 128 or a batch size that is a multiple of 3.",
    ),
    "many divisors": (
        lambda: run(7, {"x": np.ones(240)}),
        "cannot split batch into 7 microbatches: batch['x'] has 240 examples and 240 is not divisible by 7.\n"
        "Use accumulate=2, 3, 4, 5, 6, 8, 10, 12, ... or a batch size that is a multiple of 7.",
    ),
    "one example": (
        lambda: run(2, {"x": np.ones(1)}),
        "cannot split batch into 2 microbatches: batch['x'] has 1 examples and 1 is not divisible by 2.\n"
        "Use accumulate=1 or a batch size that is a multiple of 2.",
    ),
    "columns differ": (
        lambda: run(2, {"x": np.ones(4), "y": {"z": np.ones((6, 2))}}),
        "cannot split batch into 2 microbatches: its columns have no common leading axis: batch['x'] (4,), "
        "batch['y']['z'] (6, 2). Give every array the same leading axis, one entry an example, and keep what "
        "belongs to all examples out of the batch (or make it a scalar).",
    ),
    "empty": (
        lambda: run(2, {"x": np.ones((0, 3))}),
        "the batch is empty: batch['x'] (0, 3). The mean over no example is no number. Skip such a batch, or "
        "leave it out where the batches are made.",
    ),
    "no examples": (
        lambda: run(2, {"x": np.float32(1)}),
        "cannot split batch into 2 microbatches: it holds no array of examples. Give it columns of one "
        "leading dimension, or use accumulate=1.",
    ),
    "not a number": (
        lambda: run(0, {"x": np.ones(4)}),
        "accumulate is 0. It counts the microbatches that a batch is cut into: an int of at least 1.",
    ),
}


def run(accumulate, batch):
    beats = fb.four_beats(lambda model, b: model["w"] * b["x"], optax.sgd(0.1), accumulate=accumulate)
    beats.train_step(beats.init({"w": jnp.ones(())}), batch)


@pytest.mark.parametrize("case", ERRORS)
def test_error_texts(case):
    call, text = ERRORS[case]
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == text
