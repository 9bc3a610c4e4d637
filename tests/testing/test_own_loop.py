"""The assertions for loops of users: each passes on a right loop and fails on a broken one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.testing import (
    assert_bit_equal,
    assert_resumes_exactly,
    constant_memory,
    expect_compilations,
    no_host_reads,
)

X = np.random.RandomState(0).normal(size=(64, 3)).astype(np.float32)
DATA = fb.data.Arrays(x=X, y=X.sum(-1))
BATCHES = DATA.batches(8, shuffle=True, seed=0, remainder="drop")
BEATS = fb.four_beats(lambda model, batch: (batch["x"] @ model["w"] - batch["y"]) ** 2, optax.adam(1e-2))
HERE = re.escape(__file__)


def start():
    return BEATS.init({"w": np.zeros(3, np.float32)})


@pytest.fixture(scope="module")
def step():
    compiled = fb.compile(BEATS.train_step)
    compiled(start(), BATCHES[0])
    return compiled


def ticks(num_steps=40, **options):
    return fb.loop(BATCHES, until=fb.at(steps=num_steps), **options)


# compilations


def test_a_whole_run_with_evaluation_compiles_two_programs_whatever_was_compiled_before():
    step, evaluate, state = fb.compile(BEATS.train_step), fb.evaluator(BEATS), start()
    with expect_compilations(2) as names:
        for tick in ticks(9):
            state, _ = step(state, tick.batch)
            jnp.where(jnp.ones((tick.step, 7)) > 0, 1.0, 2.0)  # JAX's own programs
        evaluate(state, DATA.batches(16))
    assert names == ["train_step", "eval_step"]


@jax.jit
def double(x):
    return 2 * x


def varying():
    for n in range(1, 4):
        double(np.ones(n, np.float32))


def wrapped_anew():
    for _ in range(3):
        jax.jit(lambda x: x + 1)(np.ones(3))


@pytest.mark.parametrize(("loop", "names"), [(varying, "double 3 times"), (wrapped_anew, "<lambda> 3 times")])
def test_a_loop_that_recompiles_fails(loop, names):
    with pytest.raises(AssertionError) as error, expect_compilations(1):
        loop()
    assert str(error.value) == (
        f"expected 1 compilation, and there were 3: {names}.\n"
        "A program is compiled again when a shape, a dtype or a Python value of its arguments changes: "
        'fourbeat.compile(step, on_recompile="raise") names what changed.'
    )


def test_a_loop_that_compiles_nothing_fails_and_a_program_is_asked_for_by_its_name(step):
    with pytest.raises(AssertionError) as error, expect_compilations(1):
        step(start(), BATCHES[0])
    assert str(error.value) == "expected 1 compilation, and there were 0."
    with expect_compilations(1, of="tripled"):
        jax.jit(lambda x: x)(np.ones(2))

        @jax.jit
        def tripled(x):
            return 3 * x

        tripled(np.ones(2))


def test_an_error_of_the_loop_itself_comes_through():
    for assertion in (expect_compilations(1), no_host_reads(), constant_memory()):
        with pytest.raises(ZeroDivisionError), assertion:
            1 / 0  # noqa: B018


# reads

READS = {
    "asarray": np.asarray,
    "float": lambda x: float(x[0]),
    "int": lambda x: int(x[0]),
    "item": lambda x: x[0].item(),
    "device_get": jax.device_get,
    "tolist": lambda x: x.tolist(),
    "print": str,
    "format": lambda x: f"{x[0]:.3f}",
    "bool": lambda x: bool(x[0]),
    "if": lambda x: 1 if x[0] > 3 else 2,
    "np.isnan": np.isnan,
    "np.float32": lambda x: np.float32(x[0]),
    "np.max": lambda x: np.maximum(x, 0),
    "np.stack": lambda x: np.stack([x]),
}


@pytest.mark.parametrize("read", READS)
def test_every_way_of_reading_is_seen(read):
    x = jax.jit(lambda: jnp.ones(3) * 2)()
    with (
        pytest.raises(AssertionError, match=rf"the host read arrays .*\n  \(3?,?\) at {HERE}:\d+\n"),
        no_host_reads(),
    ):
        READS[read](x)
    np.testing.assert_array_equal(memoryview(x), [2, 2, 2], "the buffer protocol is back")


def test_a_loop_may_read_at_its_marks_before_it_and_after_it(step):
    state, log, loss = start(), fb.every(steps=10), jnp.ones(())
    with no_host_reads() as reads:
        float(loss)
        for tick in ticks(25, marks=[log], start=state.step):
            state, logs = step(state, tick.batch)
            if log in tick:
                float(logs["loss"])
        float(logs["loss"])
    assert [read.is_at_a_mark for read in reads if f"{__file__}:" in read.where].count(True) == 2


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_a_loop_that_reads_each_step_fails(step, steps_per_call):
    def train():
        state, log = start(), fb.every(steps=12)
        for tick in ticks(24, marks=[log], steps_per_call=steps_per_call):
            state, logs = step(state, tick.batch)
            if logs["loss"] < 0 or log in tick:
                print(logs["loss"])

    num_bad = 24 // steps_per_call - 2  # at the marks it may
    line = train.__code__.co_firstlineno + 4
    with pytest.raises(AssertionError) as error, no_host_reads():
        train()
    shown = f"\n  () at {__file__}:{line}" * min(num_bad, 5)
    more = f"\n  and {num_bad - 5} more" if num_bad > 5 else ""
    assert str(error.value) == (
        f"the host read arrays {num_bad} times between marks, and waited for the device each time:"
        f"{shown}{more}\n"
        'Keep the values on the device, and read them at a mark: if log in tick: print(float(logs["loss"])).'
    )


# memory


def test_memory_of_a_right_loop_is_constant_with_lists_made_before_and_evaluation_within(step):
    evaluate, end = fb.evaluator(BEATS), fb.every(epochs=1)
    with constant_memory():
        rows = [jnp.asarray(row) for row in X[:40]]  # made once
        state = start()
        for tick in ticks(48, marks=[end]):
            state, _ = step(state, tick.batch)
            if end in tick:
                evaluate(state, DATA.batches(16))
    assert len(rows) == 40


def grows_by_losses(step):
    state, losses = start(), []
    for tick in ticks():
        state, logs = step(state, tick.batch)
        losses.append(logs["loss"])


def grows_at_marks(step):
    state, log, losses = start(), fb.every(steps=4), []
    for tick in ticks(marks=[log]):
        state, logs = step(state, tick.batch)
        if log in tick:
            losses.append(logs["loss"])


def grows_by_states(step):
    state, states = start(), []
    for tick in ticks():
        states.append(state.replace())
        state, _ = step(state, tick.batch)


def grows_in_bytes(step):
    seen = jnp.zeros((0, 10_000))
    for i in range(24):
        seen = jnp.concatenate([seen, jnp.ones((1, 10_000))])
        assert len(seen) == i + 1


def grows_in_plain_jax(step):
    losses = []
    for batch in [np.ones(3, np.float32)] * 24:
        losses.append(double(batch))


LEAKS = [grows_by_losses, grows_at_marks, grows_by_states, grows_in_bytes, grows_in_plain_jax]


@pytest.mark.parametrize("train", LEAKS)
def test_a_loop_that_grows_fails(train, step):
    with pytest.raises(AssertionError) as error, constant_memory():
        train(step)
    lines = range(train.__code__.co_firstlineno, train.__code__.co_firstlineno + 8)
    found = re.fullmatch(
        r"the arrays on the device grow: their (number|bytes) went from [\d,]+ to [\d,]+ while "
        rf"{HERE}:(\d+) ran \d+ times\.( There are \d+ more of (\S+)\.)?\n"
        r"Something keeps the arrays of past steps, as a list of losses does\. Keep floats, read at a mark, "
        r"or the last array only\.",
        str(error.value),
    )
    assert found and int(found[2]) in lines, str(error.value)
    assert found[1] == ("bytes" if train is grows_in_bytes else "number")
    if train in (grows_by_losses, grows_at_marks):
        assert found[4] == "float32[]"


def test_a_block_that_is_too_short_to_tell_says_so():
    with (
        pytest.raises(
            ValueError, match=r"^constant_memory\(\) cannot tell: no line of your own code ran 16 times"
        ),
        constant_memory(),
    ):
        double(np.ones(3, np.float32))


# resuming


def trained(step, directory, stop_at, *, restored=lambda new, old: old, **options):
    state = start().replace(key=jax.random.key_data(jax.random.key(3)))
    until = fb.at(steps=12 if stop_at is None else stop_at)
    with fb.Checkpoints(directory) as checkpoints:
        state = restored(state, checkpoints.restore_or(state))
        for tick in fb.loop(BATCHES, start=options.get("start", state.step), until=until):
            state, _ = step(state, tick.batch)
            if tick.is_last:
                checkpoints.save(tick.step, state)
    return state


def test_a_run_that_resumes_exactly_passes(step):
    assert_resumes_exactly(lambda directory, stop_at: trained(step, directory, stop_at), stops=(2, 8, 9))


WRONG = {
    "the optimizer begins anew": (
        {"restored": lambda new, old: old.replace(opt_state=new.opt_state)},
        r"stopped at step 2 and resumed, the run is not the one that was never stopped: it ended with "
        r"other values\. \d+ of \d+ leaves differ:\n  "
        r"tree\.params\['w'\]: 3 of 3 numbers of float32\[3\] differ, .*",
    ),
    "the key begins anew": (
        {"restored": lambda new, old: old.replace(key=old.key + np.uint32(int(old.step) > 0))},
        r"stopped at step 2 and resumed, .*\n  tree\.key: .*",
    ),
    "the data begin anew": ({"start": 0}, r"stopped at step 2 and resumed, .*"),
    "nothing is restored": (
        {"restored": lambda new, old: new},
        r"asked for step 2 after its end, the run is not the one that was never stopped: it began anew, and "
        r"does not go on with what its directory holds: other values\. .*",
    ),
}


@pytest.mark.parametrize("way", WRONG)
def test_a_run_that_resumes_wrongly_fails(way, step):
    options, text = WRONG[way]
    with pytest.raises(AssertionError) as error:
        assert_resumes_exactly(
            lambda directory, stop_at: trained(step, directory, stop_at, **options), stops=(2,)
        )
    assert re.match(text, str(error.value), re.DOTALL), str(error.value)


def test_a_run_that_does_not_stop_or_saves_nothing_is_no_test():
    def count(directory, stop_at):
        return 5 if stop_at is None else stop_at

    with pytest.raises(AssertionError) as error:
        assert_resumes_exactly(count, stops=(2,))
    assert str(error.value) == "train(directory, 2) left nothing in its directory: nothing can be resumed."
    with pytest.raises(AssertionError) as error:
        assert_resumes_exactly(lambda directory, stop_at: 5, stops=(2,))
    assert str(error.value) == (
        "train(directory, 2) did not stop there: it returned what the whole run does. "
        "Take stops before the end, and stop the loop at stop_at."
    )
    with pytest.raises(ValueError, match=r"^stops is empty\. Give the steps to stop at\.$"):
        assert_resumes_exactly(count, stops=())


# bits


def test_bits_are_compared_with_their_paths():
    tree = {
        "a": np.array([1.0, np.nan, -0.0], np.float32),
        "k": jax.random.key(0),
        "n": 3,
        "e": jnp.zeros((0, 2)),
    }
    assert_bit_equal(tree, dict(tree))
    other = {**tree, "a": np.array([1.0, np.nan, 0.0], np.float32), "n": 4}
    with pytest.raises(AssertionError) as error:
        assert_bit_equal(other, tree)
    assert str(error.value) == (
        "2 of 4 leaves differ:\n"
        "  tree['a']: 1 of 3 numbers of float32[3] differ, the first is 0.0 where -0.0 is expected\n"
        "  tree['n']: 1 of 1 numbers of int64[] differ, the first is 4 where 3 is expected"
    )
    with pytest.raises(AssertionError) as error:
        assert_bit_equal({"a": 1.0, "b": 2}, {"a": 1.0, "c": 2})
    assert str(error.value) == "the trees have other leaves: it lacks tree['c']; it has tree['b'] too."
    with pytest.raises(AssertionError, match=r"tree: float32\[2\] where float32\[3\] is expected$"):
        assert_bit_equal(np.zeros(2, np.float32), np.zeros(3, np.float32))
