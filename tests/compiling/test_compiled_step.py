"""compile: donation, blocks, the recompilation watch, tuning."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.compiling import RecompilationError, RecompilationWarning, eigen_convolutions
from tests.kinds import KINDS, assert_bit_equal

KIND = KINDS["dict"]


def make():
    beats = fb.four_beats(lambda model, batch: KIND.items(model, batch)[0], optax.sgd(0.1))
    return beats, beats.init(KIND.make(0))


def test_the_state_is_donated_unless_told_not_to():
    beats, state = make()
    kept, _ = fb.compile(beats.train_step, donate=False)(state, KIND.batch(0, 8))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    params = state.params
    given, _ = fb.compile(beats.train_step)(state, KIND.batch(0, 8))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params))
    assert_bit_equal(kept, given)


def test_a_block_runs_its_valid_steps_and_one_program_serves_every_length():
    beats, start = make()
    batches = [KIND.batch(seed, 8) for seed in range(7)]
    one, block_step = fb.compile(beats.train_step), fb.compile(beats.train_step, on_recompile="raise")
    for length in (1, 3, 5):
        state, last = start.replace(), None
        for batch in batches[:length]:
            state, last = one(state, batch)
        fused, logs = block_step(start.replace(), fb.Block.stack(batches[:length], size=5))
        assert_bit_equal((fused, logs), (state, last))
    assert block_step.num_compilations == 1


def test_a_block_of_no_step_changes_nothing():
    beats, state = make()
    start = jax.device_get(state)
    block = fb.Block.stack([KIND.batch(0, 8)])
    state, logs = fb.compile(beats.train_step)(state, fb.Block(block.batch, np.int32(0)))
    assert_bit_equal(state, start)
    assert logs["loss"] == 0


def test_finite_is_of_all_steps_of_a_block():
    def step(state, batch):
        return state + 1, {"finite": jnp.isfinite(batch["x"]).all(), "x": batch["x"].sum()}

    batches = [{"x": np.float32([value])} for value in (1, np.nan, 3)]
    _, logs = fb.compile(step)(jnp.int32(0), fb.Block.stack(batches))
    assert not logs["finite"]
    assert logs["x"] == 3
    _, logs = fb.compile(step)(jnp.int32(0), fb.Block.stack(batches[::2]))
    assert logs["finite"]


def longer(batch):
    return {name: np.concatenate([column, column]) for name, column in batch.items()}


CHANGES = {
    "shape": (longer, "batch['label'] changed from int32[8] to int32[16]; batch['x'] changed from "
              "float32[8, 3] to float32[16, 3]. "),
    "dtype": (lambda batch: {**batch, "x": batch["x"].astype(np.float16)},
              "batch['x'] changed from float32[8, 3] to float16[8, 3]. "),
    "weak type": (lambda batch: {**batch, "x": jnp.full((8, 3), 2.0)},
                  "batch['x'] changed from float32[8, 3] to float32[8, 3] (weakly typed). "),
    "new column": (lambda batch: {**batch, "extra": np.ones(8, np.float32)}, "batch['extra'] appeared. "),
    "lost column": (lambda batch: {"x": batch["x"], "label": batch["label"]}, "batch['spare'] is gone. "),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_the_watch_names_the_leaf_that_changed_and_how(change):
    beats, state = make()
    first = {**KIND.batch(0, 8), "spare": np.zeros(8, np.float32)}
    if change != "lost column":
        del first["spare"]
    change, text = CHANGES[change]
    repair = "Give every call arguments of one form (pad short batches), or pass on_recompile='ignore'."
    warning = fb.compile(beats.train_step)
    state, _ = warning(state, first)
    with pytest.warns(RecompilationWarning) as caught:
        state, _ = warning(state, change(first))
    assert str(caught[0].message) == f"train_step compiles again: {text}{repair}"

    raising = fb.compile(beats.train_step, on_recompile="raise")
    state, _ = raising(state, first)
    before = jax.device_get(state)
    with pytest.raises(RecompilationError) as raised:
        raising(state, change(first))
    assert str(raised.value).startswith(f"train_step compiles again: {text}Nothing has run. ")
    assert_bit_equal(state, before)  # neither donated nor changed
    state, _ = raising(state, first)

    silent = fb.compile(beats.train_step, on_recompile="ignore")
    state, _ = silent(state, first)
    silent(state, change(first))


def test_the_watch_sees_a_changed_state_and_another_model():
    beats, state = make()
    step = fb.compile(beats.train_step)
    step(state, KIND.batch(0, 8))
    with pytest.warns(
        RecompilationWarning, match=r"compiles again: the static structure changed: model\.name"
    ):
        step(beats.init({**KIND.make(0), "name": "other"}), KIND.batch(0, 8))


def test_an_unknown_answer_to_recompilation_is_refused():
    with pytest.raises(ValueError, match=r"on_recompile is 'shout'. Use 'warn', 'raise' or 'ignore'."):
        fb.compile(lambda state, batch: (state, None), on_recompile="shout")


def test_tune_measures_without_touching_the_state_and_fuses_what_is_small():
    beats, state = make()
    step = fb.compile(beats.train_step, on_recompile="raise")
    batches = fb.data.Arrays(**KIND.batch(0, 2048)).batches(8, shuffle=True, seed=0)
    before = jax.device_get(state)
    size = step.tune(state, batches)
    assert size > 1  # a model of eight numbers spends its step on dispatch: fused it is many times faster
    assert_bit_equal(state, before)
    for tick in fb.loop(batches, until=fb.at(steps=300), steps_per_call=size):
        state, _ = step(state, tick.batch)
    assert state.step == 300
    assert step.tune(state, [KIND.batch(0, 8)]) == 1


def test_a_step_of_any_kind_compiles():
    step = fb.compile(lambda total, x, y: (total + x, total * y))
    total, out = step(jnp.float32(2), jnp.float32(3), jnp.float32(4))
    assert (total, out) == (5, 8)


def test_xla_gets_the_options_and_convolutions_of_eigen_are_the_same_convolutions():
    def step(kernel, batch):
        convolved = lambda kernel: jax.lax.conv_general_dilated(
            batch["x"], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return kernel - jax.grad(lambda kernel: (convolved(kernel) ** 2).mean())(kernel), {}

    normal = np.random.RandomState(0).standard_normal
    kernel, batch = (
        jnp.asarray(normal((3, 3, 32, 64)), jnp.float32),
        {"x": np.float32(normal((8, 14, 14, 32)))},
    )
    plain = fb.compile(step, donate=False)
    chosen = fb.compile(step, donate=False, compiler_options=eigen_convolutions())
    from_ynnpack = re.compile(r"ynn_fusion\S* = .*conv_general_dilated")
    texts = [compiled.lower(kernel, batch).compile().as_text() for compiled in (plain, chosen)]
    assert [bool(from_ynnpack.search(text)) for text in texts] == [True, False]
    np.testing.assert_allclose(chosen(kernel, batch)[0], plain(kernel, batch)[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(Exception, match="No such compile option: 'xla_of_no_such_name'"):
        fb.compile(step, compiler_options={"xla_of_no_such_name": True})(kernel, batch)


def test_a_batch_that_is_placed_after_one_of_the_host_is_named():
    step = fb.compile(lambda total, batch: (total + batch["x"].sum(), {}))
    x = np.ones(3, np.float32)
    total, _ = step(jnp.float32(0), {"x": x})
    total, _ = step(total, {"x": jax.device_put(x)})  # where JAX puts it one program serves both
    with pytest.warns(fb.compiling.RecompilationWarning) as caught:
        step(total, {"x": jax.device_put(x, jax.devices()[0])})
    assert [str(each.message) for each in caught] == [
        "<lambda> compiles again for arrays of the same form: batch['x'] lay on the host and now lies on "
        "cpu:0. Leave each array in its place: fourbeat.compile(step, mesh=mesh) sees to that. Give all "
        "batches as NumPy arrays, or all of them placed in one way. Or pass on_recompile='ignore'."
    ]
