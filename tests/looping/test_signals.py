"""Signals end a loop after its tick, and the handlers from before always come back."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from fourbeat.looping import at, every, loop, stop_signal

BATCHES = [{"x": np.zeros((2, 1))}] * 4
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handlers():
    return [signal.getsignal(number) for number in (*ASKING, signal.SIGUSR1)]


@pytest.fixture(autouse=True)
def _handlers_are_left_as_they_were():
    """Handlers of a process whose parent ignores none of these signals."""
    kept = [
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for number in ASKING
    ]
    before = handlers()
    yield
    assert handlers() == before
    for number, handler in zip(ASKING, kept, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ASKING)
@pytest.mark.parametrize("size", [1, 3])
def test_a_signal_ends_the_loop_after_the_body_of_its_tick(number, size):
    ticks = loop(BATCHES, until=at(epochs=9) | stop_signal(), steps_per_call=size)
    done = []
    for tick in ticks:
        assert not tick.is_last
        if len(done) == 2:
            os.kill(os.getpid(), number)
        done.append(tick.step)
    assert len(done) == 3
    assert ticks.interrupted and ticks.signal is number and ticks.step == done[-1]


def test_a_signal_while_a_batch_is_read_gives_no_further_tick():
    def batches():
        yield from BATCHES[:2]
        signal.raise_signal(signal.SIGTERM)
        yield from BATCHES

    ticks = loop(batches(), until=stop_signal())
    assert [tick.step for tick in ticks] == [1, 2]
    assert ticks.interrupted


def test_a_signal_in_the_last_tick_is_told_too():
    ticks = loop(BATCHES, until=at(steps=2) | stop_signal())
    for tick in ticks:
        if tick.is_last:
            signal.raise_signal(signal.SIGTERM)
    assert ticks.interrupted and ticks.step == 2


def test_an_end_by_a_limit_is_no_interruption():
    ticks = loop(BATCHES, until=at(steps=2) | stop_signal())
    assert len(list(ticks)) == 2
    assert not ticks.interrupted and ticks.signal is None


def leave_by_break():
    for _ in loop(BATCHES, until=stop_signal()):
        break


def leave_by_exception():
    for _ in loop(BATCHES, until=stop_signal()):
        raise KeyError("x")


def leave_by_bad_data():
    list(loop([*BATCHES, "no batch"], until=stop_signal()))


def leave_by_close():
    ticks = iter(loop(BATCHES, until=stop_signal()))
    next(ticks)
    ticks.close()


def leave_by_second_interrupt():
    for _ in loop(BATCHES, until=stop_signal()):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one raises at once")


WAYS = {
    "break": (leave_by_break, None),
    "exception": (leave_by_exception, KeyError),
    "bad data": (leave_by_bad_data, TypeError),
    "close": (leave_by_close, None),
    "second Ctrl-C": (leave_by_second_interrupt, KeyboardInterrupt),
}
EARLIER = {
    "default": signal.SIG_DFL,
    "own": lambda number, frame: None,
}


@pytest.mark.parametrize("earlier", EARLIER)
@pytest.mark.parametrize("way", WAYS)
def test_handlers_come_back_whatever_ends_the_loop(way, earlier):
    leave, error = WAYS[way]
    kept = [signal.signal(n, EARLIER[earlier]) for n in ASKING]
    try:
        if error is None:
            leave()
        else:
            with pytest.raises(error):
                leave()
        assert handlers()[:3] == [EARLIER[earlier]] * 3
    finally:
        for number, handler in zip(ASKING, kept, strict=True):
            signal.signal(number, handler)


@pytest.mark.parametrize("number", ASKING)
def test_what_is_ignored_stays_ignored_unless_it_is_named(number):
    kept = signal.signal(number, signal.SIG_IGN)
    try:
        for _ in (ticks := loop(BATCHES, until=at(steps=2) | stop_signal())):
            signal.raise_signal(number)
        assert (ticks.step, ticks.interrupted, signal.getsignal(number)) == (2, False, signal.SIG_IGN)
        for _ in (ticks := loop(BATCHES, until=at(steps=2) | stop_signal(number))):
            signal.raise_signal(number)
        assert (ticks.step, ticks.signal, signal.getsignal(number)) == (1, number, signal.SIG_IGN)
    finally:
        signal.signal(number, kept)


def test_a_request_can_stand_for_a_signal():
    stop = stop_signal(install=False)
    for _ in (ticks := loop(BATCHES, until=stop)):
        stop.request(signal.SIGPIPE)
    assert (ticks.step, ticks.signal) == (1, signal.SIGPIPE)


def test_the_inner_of_two_loops_receives_the_signal():
    outer = loop(BATCHES, until=at(steps=2) | stop_signal())
    inner_steps = []
    for tick in outer:
        inner = loop(BATCHES, until=at(steps=3) | stop_signal())
        for inner_tick in inner:
            inner_steps.append(inner_tick.step)
            if tick.step == 1 and inner_tick.step == 2:
                signal.raise_signal(signal.SIGINT)
        assert inner.interrupted == (tick.step == 1)
    assert inner_steps == [1, 2, 1, 2, 3]
    assert not outer.interrupted and outer.step == 2


def test_a_shared_stop_signal_ends_both_loops():
    stop = stop_signal()
    outer = loop(BATCHES, until=at(steps=9) | stop)
    for _ in outer:
        for _ in loop(BATCHES, until=stop):
            signal.raise_signal(signal.SIGINT)
    assert outer.interrupted and outer.step == 1
    batches = iter(BATCHES)
    assert list(loop(batches, until=stop)) == []
    assert len(list(batches)) == len(BATCHES)  # none was read


def test_other_signals_can_be_named():
    ticks = loop(BATCHES, until=stop_signal(signal.SIGUSR1))
    for tick in ticks:
        if tick.step == 6:
            signal.raise_signal(signal.SIGUSR1)
    assert ticks.step == 6 and ticks.signal is signal.SIGUSR1


def test_a_handler_from_outside_python_is_left_alone(monkeypatch):
    real = signal.getsignal
    monkeypatch.setattr(
        signal, "getsignal", lambda number: None if number == signal.SIGTERM else real(number)
    )
    before = real(signal.SIGTERM)
    for _ in loop(BATCHES, until=at(steps=1) | stop_signal()):
        assert real(signal.SIGTERM) is before
        assert real(signal.SIGINT) is not before


def test_a_stop_can_be_asked_for_by_hand_off_the_main_thread():
    stop = stop_signal(install=False)
    ticks = loop(BATCHES, until=stop)
    third, steps = threading.Event(), []

    def run():
        for tick in ticks:
            steps.append(tick.step)
            if tick.step == 3:
                third.set()
                while not stop.is_requested:
                    pass

    thread = threading.Thread(target=run)
    thread.start()
    third.wait()
    stop.request()
    thread.join()
    assert steps == [1, 2, 3]
    assert ticks.interrupted and ticks.signal is None


def test_catching_signals_off_the_main_thread_says_what_to_do():
    caught = []

    def run():
        try:
            list(loop(BATCHES, until=stop_signal()))
        except RuntimeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=run, name="trainer")
    thread.start()
    thread.join()
    assert caught == [
        "stop_signal(SIGINT, SIGTERM, SIGHUP): a loop can only catch signals on the main thread, and this is "
        "thread 'trainer'. Use until=... | stop where stop = stop_signal(install=False), and call "
        "stop.request() from where the signal is seen."
    ]


def test_sigterm_lets_a_process_finish_its_step_and_save():
    script = """
        import signal
        import numpy as np
        from fourbeat.looping import loop, stop_signal

        ticks = loop([{"x": np.zeros((2, 1))}], until=stop_signal())
        for tick in ticks:
            print("ready", flush=True)
            while tick.step == 3 and not ticks.interrupted:
                pass
        print("saved", ticks.step, ticks.signal.name, signal.getsignal(signal.SIGTERM).name)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        rest = process.communicate()[0]
    assert rest == "saved 3 SIGTERM SIG_DFL\n"
    assert process.returncode == 0


ERRORS = {
    "unknown": (
        lambda: stop_signal(9999),
        ValueError,
        "stop_signal(9999): this is no signal of this system. Use numbers from the signal module, such as "
        "signal.SIGTERM.",
    ),
    "cannot be caught": (
        lambda: stop_signal(signal.SIGKILL),
        ValueError,
        "stop_signal(SIGKILL): no process can catch SIGKILL. Checkpoints are what survives it.",
    ),
    "not installed": (
        lambda: stop_signal(signal.SIGTERM, install=False),
        ValueError,
        "stop_signal(15, install=False): without handlers no signal is seen. Leave the signals out, or "
        "install=False.",
    ),
    "in marks": (
        lambda: loop(BATCHES, until=at(steps=1), marks=[every(steps=1) | stop_signal()]),
        TypeError,
        "marks holds every(steps=1) | stop_signal(SIGINT, SIGTERM, SIGHUP), with a stop signal, which "
        "cannot be foreseen: put it into until, and ask the loop for .interrupted.",
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(kind):
    call, error, text = ERRORS[kind]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text
