"""The laws over whole runs: one compilation, fusion, evaluation, transfers, watching, memory."""

import functools
import io
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from tests.kinds import KINDS, assert_bit_equal
from tests.oracles.steps_by_hand import accuracy

NUM_EXAMPLES = 61  # no multiple of any batch size: the last batch is short


SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 0.05, 4, 40)
ALL_PARTS = {
    "accumulate": 2, "guard": fb.guard.skip(fb.guard.Spike(window=5, factor=50.0)), "ema": 0.9,
    "schedule": SCHEDULE,
}  # fmt: skip
PARTS = {"plain": {}, "all parts": ALL_PARTS, "all parts in float16": ALL_PARTS | {"precision": "float16"}}


# under Adam a bias before BatchNorm, whose gradient is rounding noise alone, would walk at full speed
MOMENTUM = optax.sgd(0.1, momentum=0.9)
OPTIMIZERS = {KINDS["dict"]: optax.adamw(1e-2)}


def make_beats(kind, parts="plain"):
    def loss_fn(model, batch):
        loss, logits = kind.items(model, batch)
        return loss, {"logits": logits, "labels": batch["label"]}

    tx = OPTIMIZERS.get(kind, MOMENTUM)
    if parts != "plain":
        tx = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(SCHEDULE, momentum=0.9))
    metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())
    return fb.four_beats(loss_fn, tx, metrics=metrics, **PARTS[parts])


@functools.cache
def compiled_once(kind, parts, steps_per_call, resident):
    """Beats and their compiled step, for every run of the same program."""
    beats = make_beats(kind, parts)
    return beats, fb.compile(beats.train_step, on_recompile="raise")


def make_data(kind, num_examples=NUM_EXAMPLES, parts="plain"):
    columns = kind.batch(0, num_examples)
    if parts != "plain":
        columns["x"][11] = np.nan  # a bad step of each epoch
    return fb.data.Arrays(**columns)


def run(kind, *, steps=20, watch=None, start=None, steps_per_call=1, resident="auto", parts="plain"):
    """Trains; returns (state, marks that fell, popped metrics)."""
    beats, step = compiled_once(kind, parts, steps_per_call, resident)
    state = beats.init(kind.make(0)) if start is None else start
    data = make_data(kind, parts=parts)
    batches = data.batches(8, shuffle=True, seed=3, remainder="drop", resident=resident)
    seldom, epoch_end = fb.every(steps=6), fb.every(epochs=1)
    loop = fb.loop(
        batches,
        start=state.step,
        until=fb.at(steps=steps),
        marks=[seldom, epoch_end],
        steps_per_call=steps_per_call,
    )
    marks, popped = [], []
    for tick in loop:
        state, logs = step(state, tick.batch)
        assert int(state.step) == tick.step
        marks += [(tick.step, name) for name, mark in (("s", seldom), ("e", epoch_end)) if mark in tick]
        if epoch_end in tick:
            values, state = state.pop_metrics()
            popped.append(values)
        if watch:
            watch(beats, state, logs)
    return state, marks, popped


@pytest.mark.parametrize(
    ("kind", "parts"),
    [("dict", "plain"), ("cnn", "all parts in float16")],
)
def test_law_2_a_whole_run_compiles_each_function_once(kind, parts):
    kind = KINDS[kind]
    beats = make_beats(kind, parts=parts)
    state = beats.init(kind.make(0))
    step, evaluate = fb.compile(beats.train_step), fb.evaluator(beats)
    batches = make_data(kind, parts=parts).batches(8, shuffle=True, seed=0, remainder="drop")
    valid_batches = make_data(kind, 21).batches(8)
    epoch_end = fb.every(epochs=1)
    with fb.testing.expect_compilations(3) as names:
        for steps_per_call in (1, 4):
            until = fb.at(steps=int(state.step) + 23)
            loop = fb.loop(
                batches, start=state.step, until=until, marks=[epoch_end], steps_per_call=steps_per_call
            )
            for tick in loop:
                state, _ = step(state, tick.batch)
                if epoch_end in tick:
                    _, state = state.pop_metrics()
                    evaluate(state, valid_batches)
    assert sorted(names) == ["eval_step", "train_step", "train_step"]


@pytest.mark.parametrize(
    ("kind", "resident", "lengths"),
    [
        ("dict", True, (3, 50)),
        ("dict", False, (3, 50)),
        ("cnn", "auto", (50,)),
        ("transformer", "auto", (50,)),
    ],
)
def test_law_3_fusion_changes_nothing(kind, resident, lengths):
    state, marks, popped = run(KINDS[kind], resident=resident)
    for steps_per_call in lengths:
        fused, fused_marks, fused_popped = run(KINDS[kind], resident=resident, steps_per_call=steps_per_call)
        assert fused_marks == marks
        assert_bit_equal((fused.step, fused.key), (state.step, state.key))
        # XLA gives convolutions and dots in a loop body other kernels on CPU: rounding, and no more
        for one, other in zip(*map(jax.tree.leaves, (fused.params, state.params)), strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4)
        for one, other in zip(fused_popped, popped, strict=True):
            np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-2)
    if kind == "dict":
        assert_bit_equal(fused, state)


@pytest.mark.parametrize("name", KINDS)
def test_law_6_scores_do_not_depend_on_the_batch_size(name):
    kind = KINDS[name]
    beats = make_beats(kind)
    state, *_ = run(kind, steps=8)
    evaluate = fb.evaluator(beats)
    data = make_data(kind, 37)
    scores = [evaluate(state, data.batches(size)) for size in (1, 8, 37, 50)]
    right, loss = accuracy(jax.jit(kind.items), state.model, [dict(data.columns)])
    for score in scores:
        np.testing.assert_allclose(score["accuracy"], right, rtol=1e-6)
        np.testing.assert_allclose(score["loss"], loss, rtol=1e-3 if "bfloat16" in name else 1e-4)


def test_law_3_fusion_changes_nothing_with_all_parts_on():
    """A bad step in each epoch, a schedule, an average: bit-equal where XLA emits the same kernels."""
    state, marks, popped = run(KINDS["dict"], parts="all parts")
    fused, fused_marks, fused_popped = run(KINDS["dict"], parts="all parts", steps_per_call=7)
    assert_bit_equal(fused, state)
    assert (fused_marks, fused_popped) == (marks, popped)
    assert int(state.step) == 20 and int(state.num_updates) == 20 - int(state.guard.num_bad) < 20


@pytest.mark.parametrize("parts", ["plain", "all parts in float16"])
@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_law_7_between_marks_the_host_reads_nothing(steps_per_call, parts):
    kind = KINDS["cnn"]
    beats = make_beats(kind, parts=parts)
    state = beats.init(kind.make(0))
    step = fb.compile(beats.train_step)
    mark = fb.every(steps=12)
    loop = fb.loop(
        make_data(kind, parts=parts).batches(8, shuffle=True, seed=0, remainder="drop"),
        start=state.step,
        until=fb.at(steps=24) | fb.stop_signal(),
        marks=[mark, fb.every(epochs=1), fb.every(seconds=1000)],
        steps_per_call=steps_per_call,
    )
    with fb.testing.no_host_reads() as reads:
        for tick in fb.progress(loop, file=io.StringIO()):
            state, logs = step(state, tick.batch)
            if mark in tick:
                before = len(reads)
                float(logs["loss"])
                assert len(reads) == before + 1
    assert len(reads) == 2
    if parts != "plain":
        assert int(state.guard.num_bad) > 0


@pytest.mark.parametrize("parts", ["plain", "all parts in float16"])
def test_law_8_watching_changes_nothing(parts):
    evaluate = loss_of = None

    def watch(beats, state, logs):
        nonlocal evaluate, loss_of
        evaluate, loss_of = evaluate or fb.evaluator(beats), loss_of or jax.jit(beats.loss)
        float(logs["loss"]), float(logs["grad_norm"])
        if state.guard is not None:
            fb.guard.check(state, max_consecutive=9), state.ema_model, fb.precision.explain(beats, state)
        repr(state), state.model, int(state.num_updates)
        evaluate(state, make_data(KINDS["cnn"], 9).batches(4))
        loss_of(state, KINDS["cnn"].batch(1, 4))

    alone, *_ = run(KINDS["cnn"], steps=5, parts=parts)
    watched, *_ = run(KINDS["cnn"], steps=5, watch=watch, parts=parts)
    assert_bit_equal(watched, alone)


def test_a_run_stopped_anywhere_and_started_again_is_the_same_run():
    whole, marks, _ = run(KINDS["cnn"], steps=16)
    for cut in (1, 6, 7, 8, 13):
        first, before, _ = run(KINDS["cnn"], steps=cut)
        second, after, _ = run(KINDS["cnn"], steps=16, start=first)
        assert_bit_equal(second, whole)
        assert before + after == marks


@pytest.mark.parametrize(("steps_per_call", "parts"), [(7, "plain"), (1, "all parts")])
def test_law_11_the_number_of_live_arrays_does_not_grow(steps_per_call, parts):
    kind = KINDS["dict"]
    beats = make_beats(kind, parts=parts)
    state = beats.init(kind.make(0))
    step, evaluate = fb.compile(beats.train_step), fb.evaluator(beats)
    valid_batches = make_data(kind, 9).batches(4)
    data = make_data(kind, parts=parts)
    batches = data.batches(8, shuffle=True, seed=0, remainder="drop", resident=False)
    mark = fb.every(steps=100)
    loop = fb.loop(batches, until=fb.at(steps=1_000), marks=[mark], steps_per_call=steps_per_call)
    with fb.testing.constant_memory():
        for tick in loop:
            state, _ = step(state, tick.batch)
            if mark in tick:
                _, state = state.pop_metrics()
                evaluate(state, valid_batches)


def test_two_models_built_the_same_way_are_one_program():
    kind = KINDS["cnn"]
    beats = make_beats(kind)
    step = fb.compile(beats.train_step, on_recompile="raise")
    states = [beats.init(kind.make(seed)) for seed in (0, 1)]
    jax.tree.map(lambda one, other: one, *states)
    for state, seed in itertools.product(states, (0,)):
        step(state, kind.batch(seed, 8))
    assert step.num_compilations == 1


def test_a_model_that_is_an_equinox_module_or_a_named_tuple_trains():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))

    def loss_fn(model, batch):
        logits = jax.vmap(model)(batch["x"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])

    beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    state = beats.init(model)
    step = fb.compile(beats.train_step, on_recompile="raise")
    losses = []
    for seed in range(20):
        state, logs = step(state, KINDS["dict"].batch(seed % 2, 8))
        losses.append(float(logs["loss"]))
    assert losses[-1] < losses[0]
    assert isinstance(state.model, eqx.nn.MLP)


def test_a_live_module_comes_out_and_the_users_own_is_never_touched():
    kind = KINDS["cnn"]
    model = kind.make(0)
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    beats = make_beats(kind)
    state = beats.init(model)
    for seed in range(3):
        state, _ = fb.compile(beats.train_step)(state, kind.batch(seed, 8))
    assert_bit_equal(nnx.to_pure_dict(nnx.state(model, nnx.Param)), before)
    assert not model.norm.use_running_average  # still in the mode it came in
    live = state.model
    assert live.norm.use_running_average
    state, _ = fb.compile(beats.train_step)(state, kind.batch(3, 8))  # donates, and deletes nothing of `live`
    live(jnp.asarray(kind.batch(0, 2)["x"]))
