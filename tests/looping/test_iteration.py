"""The loop as an object: its arguments, its place, and that it costs no copy from the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.looping import Tick, at, every, loop, stop_signal

BATCHES = [{"x": np.zeros((2, 1))}] * 4


def test_step_is_that_of_the_tick_and_stays_after_the_end():
    ticks = loop(BATCHES, until=at(epochs=2), start=3)
    assert (ticks.start, ticks.step, ticks.last_step) == (3, 3, 8)
    for tick in ticks:
        assert ticks.step == tick.step
    assert ticks.step == 8


def test_a_start_on_the_device_is_read_once_and_nothing_else_is():
    ticks = loop(BATCHES, until=at(steps=6), start=jnp.int32(2), marks=[every(steps=2)])
    with jax.transfer_guard_device_to_host("disallow"):
        steps = [(tick.step, tick.examples, every(steps=2) in tick) for tick in ticks]
    assert steps == [(3, 6, False), (4, 8, True), (5, 10, False), (6, 12, True)]


class Stream:
    """Batches that can be iterated, again and again, and nothing else."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


@pytest.mark.filterwarnings("ignore::fourbeat.looping.LoopWarning")
@pytest.mark.parametrize("until", [at(steps=4), every(steps=4), at(epochs=1), at(examples=8)])
@pytest.mark.parametrize("start", [4, 5])
@pytest.mark.parametrize("wrap", [list, Stream])
def test_a_loop_that_starts_at_its_end_gives_nothing(until, start, wrap):
    assert list(loop(wrap(BATCHES), until=until, start=start)) == []


def test_without_a_limit_it_goes_on_until_a_break():
    for tick in loop(BATCHES, until=stop_signal()):
        if tick.step == 50:
            break
    assert (tick.epoch, tick.examples) == (12, 100)


LAST_STEPS = {
    "steps": (BATCHES, at(steps=7) | at(epochs=9) | stop_signal(), 7),
    "examples": (BATCHES, at(examples=9), 5),
    "no limit": (BATCHES, stop_signal() | at(seconds=5), None),
    "unknown length": (iter(BATCHES), at(epochs=1), None),
}


@pytest.mark.parametrize("kind", LAST_STEPS)
def test_last_step(kind):
    batches, until, step = LAST_STEPS[kind]
    assert loop(batches, until=until).last_step == step


def test_reprs():
    log = every(steps=2)
    ticks = loop(BATCHES, until=at(epochs=1) | stop_signal(), marks=[log])
    assert repr(ticks) == (
        "loop(step=0, until=at(epochs=1) | stop_signal(SIGINT, SIGTERM, SIGHUP), steps_per_call=1)"
    )
    assert [repr(tick) for tick in ticks] == [
        "Tick(step=1, num_steps=1, epoch=0)",
        "Tick(step=2, num_steps=1, epoch=0, marks=[every(steps=2)])",
        "Tick(step=3, num_steps=1, epoch=0)",
        "Tick(step=4, num_steps=1, epoch=1, marks=[every(steps=2)], is_last=True)",
    ]


def test_an_unknown_mark_raises_at_the_tick():
    (tick, *_) = loop(BATCHES, until=at(epochs=1), marks=[every(steps=2)])
    assert isinstance(tick, Tick)
    with pytest.raises(ValueError) as caught:
        assert every(steps=3) in tick
    assert str(caught.value) == (
        "cannot tell whether every(steps=3) falls at step 1: the loop was not told of it (its marks: "
        "every(steps=2)). Pass it: loop(..., marks=[every(steps=3)])."
    )


def test_a_loop_is_iterated_once():
    ticks = loop(BATCHES, until=at(steps=1))
    list(ticks)
    with pytest.raises(RuntimeError) as caught:
        list(ticks)
    assert str(caught.value) == (
        "loop(step=1, until=at(steps=1), steps_per_call=1) was iterated before, and its data may be used "
        "up. Build a new one with loop(..., start=state.step)."
    )


ERRORS = {
    "until": (
        {"until": 5},
        TypeError,
        "until=5 is no limit. Use at(epochs=5), at(steps=10_000), stop_signal(), or several joined with |.",
    ),
    "start below 0": (
        {"start": -1},
        ValueError,
        "start=-1 is no number of steps. Pass an integer of at least 0, or state.step.",
    ),
    "start of the wrong type": (
        {"start": 2.0},
        ValueError,
        "start=2.0 is no number of steps. Pass an integer of at least 0, or state.step.",
    ),
    "steps_per_call": (
        {"steps_per_call": 0},
        ValueError,
        "steps_per_call=0 must be at least 1.",
    ),
    "steps_per_call of the wrong type": (
        {"steps_per_call": True},
        TypeError,
        "steps_per_call=True is a bool; it takes an int.",
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(kind):
    changes, error, text = ERRORS[kind]
    with pytest.raises(error) as caught:
        loop(BATCHES, **{"until": at(steps=1), **changes})
    assert str(caught.value) == text
