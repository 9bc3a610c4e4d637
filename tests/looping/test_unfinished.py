"""A tick whose evaluation was cut short is finished by the loop that goes on, without its step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb

LOG, LOOK, LATE = fb.every(steps=3), fb.every(steps=3) | fb.at(steps=7), fb.every(steps=1)


class Ones:
    """A source with a state."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        while self.at < 7:
            self.at += 1
            yield {"x": np.ones(2)}
        self.at = 0

    def get_state(self):
        return self.at

    def set_state(self, state):
        self.at = state


KINDS = {
    "by number": lambda: fb.data.Arrays(x=np.arange(14.0)).batches(2),
    "a list": lambda: [{"x": np.ones(2)}] * 7,
    "a stream": lambda: fb.data.Stream(Ones()),
    "a generator": lambda: ({"x": np.ones(2)} for _ in range(7)),
}


@pytest.mark.filterwarnings("ignore::fourbeat.looping.InexactResumeWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop_in", [3, 7])
def test_what_was_asked_for_before_it_is_not_done_again_and_what_comes_after_it_is(stop_in, kind):
    stop = fb.stop_signal(install=False)
    marks, batches = [LOG, LOOK, LATE], KINDS[kind]()
    loop = fb.loop(batches, until=fb.at(steps=7) | stop, marks=marks)
    for tick in loop:
        assert (LOG in tick) == (tick.step % 3 == 0)
        if LOOK in tick:
            for batch in loop.interruptible([1, 2, 3]):
                assert batch < 3 or tick.step != stop_in
                if (tick.step, batch) == (stop_in, 2):
                    stop.request()
        assert LATE in tick
        assert loop.unfinished == ({LOOK, LATE} if tick.step == stop_in else set())
    batches = batches if kind == "a stream" else KINDS[kind]()
    again = fb.loop(batches, start=loop.step, until=fb.at(steps=7), marks=marks, unfinished=loop.unfinished)
    seen = [(tick.step, tick.num_steps, LOG in tick, LOOK in tick, tick.is_last) for tick in again]
    first = (stop_in, 0, False, True, stop_in == 7)
    rest = [(4, 1, 0, 0, 0), (5, 1, 0, 0, 0), (6, 1, 1, 1, 0), (7, 1, 0, 1, 1)]
    assert seen == [first, *(rest if stop_in == 3 else [])]


def test_a_compiled_step_gives_the_state_of_a_tick_of_no_step_back_and_compiles_nothing():
    step = fb.compile(lambda state, batch: (state + batch["x"].sum(), {"loss": state}))
    state = jnp.float32(2.0)
    (tick,) = fb.loop(KINDS["by number"](), start=7, until=fb.at(steps=7), marks=[LOOK], unfinished=[LOOK])
    with fb.testing.expect_compilations(0):
        after, logs = step(state, tick.batch)
    assert (float(after), logs, step.num_compilations) == (2.0, {}, 0)
    assert (tick.epoch, tick.examples) == (1, 14)


def test_a_step_of_plain_jax_that_is_called_in_a_tick_of_no_step_is_told_what_to_write():
    beats = fb.four_beats(lambda model, batch: model["w"] ** 2, optax.sgd(0.1))  # it reads no batch at all
    (tick,) = fb.loop(KINDS["by number"](), start=7, until=fb.at(steps=7), marks=[LOOK], unfinished=[LOOK])
    assert not tick.num_steps
    for step in (beats.train_step, lambda state, batch: batch["x"]):
        with pytest.raises(TypeError) as caught:
            jax.jit(step)(beats.init({"w": jnp.ones(())}), tick.batch)
        assert str(caught.value) == (
            "this tick has no step: its num_steps is 0. It finishes the evaluation in which the run was "
            "stopped. A step of fb.compile gives the state back as it is; call any other step under an if: "
            "if tick.num_steps: state, logs = step(state, tick.batch)."
        )
    block = fb.Block.stack([{"x": np.ones(2)}] * 3)
    with pytest.raises(TypeError) as caught:
        jax.jit(beats.train_step)(beats.init({"w": jnp.ones(())}), block)
    assert str(caught.value) == (
        "this batch is a Block of up to 3 steps, as steps_per_call asks for. A step of fb.compile runs "
        "them all; with any other step leave steps_per_call at 1."
    )


def test_a_mark_that_is_unknown_is_named():
    with pytest.raises(ValueError) as caught:
        fb.loop(KINDS["a list"](), until=fb.at(steps=7), marks=[LOG], unfinished=[LATE])
    assert str(caught.value) == (
        "unfinished holds every(steps=1), which marks does not. Pass it in marks too."
    )
