"""Ctrl-C without a stop signal: between ticks, with the state whole, and the handlers as they were."""

import contextlib
import signal
import threading

import jax.numpy as jnp
import numpy as np
import pytest

import fourbeat as fb

BATCHES = [{"x": np.ones(2, np.float32)}] * 4


@pytest.fixture(autouse=True)
def _handlers_are_left_as_they_were():
    """Python's own handler, which a parent that ignores SIGINT keeps it from installing."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def test_a_ctrl_c_inside_of_a_step_leaves_the_state_of_that_step():
    def train_step(state, batch):
        return state + batch["x"].sum(), None

    step = fb.compile(train_step)

    def interrupted_step(state, batch):
        new = step(state, batch)  # deletes the state it was given
        ctrl_c()
        return new

    ticks, tick = fb.loop(BATCHES, until=fb.at(epochs=9)), None
    state = jnp.float32(0)
    with contextlib.suppress(KeyboardInterrupt):
        for tick in ticks:
            state, _ = (interrupted_step if tick.step == 3 else step)(state, tick.batch)
        pytest.fail("it goes on")
    assert tick is not None
    assert (float(state), tick.step, ticks.step) == (6.0, 3, 3)


def test_between_bodies_and_a_second_time_it_is_raised_at_once():
    def batches():
        yield from BATCHES[:2]
        ctrl_c()
        pytest.fail("reading goes on")

    steps = []
    with contextlib.suppress(KeyboardInterrupt):
        for tick in fb.loop(batches(), until=fb.at(steps=9)):
            steps.append(tick.step)
    assert steps == [1, 2]
    with contextlib.suppress(KeyboardInterrupt):
        for _ in fb.loop(BATCHES, until=fb.at(steps=9)):
            ctrl_c()
            ctrl_c()
            pytest.fail("the second one raises at once")
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()


def test_of_nested_loops_the_inner_one_ends_first():
    outer, inner = fb.loop(BATCHES, until=fb.at(steps=9)), None
    with contextlib.suppress(KeyboardInterrupt):
        for _ in outer:
            inner = fb.loop(BATCHES, until=fb.at(steps=9))
            for tick in inner:
                if tick.step == 2:
                    ctrl_c()
    assert inner is not None and (outer.step, inner.step) == (1, 2)


def test_a_stop_signal_around_it_and_a_handler_of_the_users_stay():
    stopped = fb.loop(BATCHES, until=fb.stop_signal())
    for _ in stopped:
        for _ in fb.loop(BATCHES, until=fb.at(steps=3)):
            ctrl_c()
            break
    assert stopped.interrupted and stopped.step == 1
    seen = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        for _ in fb.loop(BATCHES, until=fb.at(steps=2)):
            ctrl_c()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen == [signal.SIGINT] * 2


def test_leaving_by_itself_an_iterator_kept_and_another_thread():
    for _ in fb.loop(BATCHES, until=fb.at(steps=2)):
        break
    kept = iter(fb.loop(BATCHES, until=fb.at(steps=2)))
    next(kept)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a notebook does once a cell is done
    kept.close()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=lambda: list(fb.loop(BATCHES, until=fb.at(steps=2))))
    thread.start()
    thread.join()


def test_where_the_parent_ignores_ctrl_c_so_does_a_loop():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for _ in (ticks := fb.loop(BATCHES, until=fb.at(steps=3))):
            ctrl_c()
            ctrl_c()
        assert (ticks.step, signal.getsignal(signal.SIGINT)) == (3, signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
