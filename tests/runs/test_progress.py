"""progress: a bar in a terminal, plain lines elsewhere, the ticks untouched, the newest values when shown."""

import contextlib
import importlib
import io
import os
import pty
import re
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fourbeat as fb

# the module: its name in the package is the function's
PROGRESS = importlib.import_module("fourbeat.runs.progress_iterator")


class Clock:
    """Moves when it is told to, so that no test sleeps."""

    now_s = 0.0

    def monotonic(self):
        return self.now_s


class Pulse:
    """Beats when it is told to."""

    def __init__(self, draw):
        type(self).beat = staticmethod(draw)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in ("runs.progress_state", "runs.progress_displays", "compiling.compilation_monitor"):
        monkeypatch.setattr(importlib.import_module(f"fourbeat.{module}"), "time", clock)
    monkeypatch.setattr(PROGRESS, "_Pulse", Pulse)
    return clock


def loop(steps, **options):
    return fb.loop([{"x": np.ones(2)}], until=fb.at(steps=steps), **options)


def step_for(clock, seconds):
    clock.now_s += seconds
    Pulse.beat()


def test_without_a_terminal_lines_tell_where_it_stands(clock):
    file = io.StringIO()
    bar = fb.progress(loop(50, start=3), file=file)
    steps = []
    for tick in bar:
        steps.append(tick.step)
        if tick.step in (10, 40):
            bar.show(train_loss=jnp.float32(1 / tick.step), matrix=np.eye(2), accuracy=0.5)
        step_for(clock, 1.0)
    assert steps == list(range(4, 51))
    assert file.getvalue() == (
        "step 3/50\n"
        "step 18/50   1.0 steps/s   2 examples/s   0:32 left   train loss 0.1000   accuracy 0.5000\n"
        "step 33/50   1.0 steps/s   2 examples/s   0:17 left   train loss 0.1000   accuracy 0.5000\n"
        "step 48/50   1.0 steps/s   2 examples/s   0:02 left   train loss 0.0250   accuracy 0.5000\n"
        "step 50/50   0:47 in all   train loss 0.0250   accuracy 0.5000\n"
    )


def test_a_loop_without_a_foreseeable_end_shows_no_time_left(clock):
    file = io.StringIO()
    for tick in fb.progress(fb.loop(iter([{"x": np.ones(2)}] * 4), until=fb.stop_signal()), file=file):
        step_for(clock, 10.0)
        if tick.step == 3:
            break  # the tick that it was left in counts
    assert file.getvalue() == "step 0\nstep 3   0.1 steps/s   0 examples/s\nstep 3   0:30 in all\n"


def test_it_says_what_compiles_and_what_took_over_a_second(clock):
    @jax.jit
    def quick(x):
        return x + 1

    def step_that_takes(seconds):
        @fb.compile
        def train_step(state, batch):
            step_for(clock, seconds)
            return quick(state), None

        return train_step

    file = io.StringIO()
    state = jnp.float32(0)
    for tick, seconds in zip(fb.progress(loop(2), file=file), (0.9, 2.5), strict=True):
        step = step_that_takes(seconds)
        state, _ = step(state, tick.batch)
        state, _ = step(state, tick.batch)
        Pulse.beat()
    assert file.getvalue() == (
        "step 0/2\ncompiling train_step\ncompiled train_step in 2.5 s\nstep 2/2   0:03 in all\n"
    )


@contextlib.contextmanager
def on_a_terminal(monkeypatch, term="xterm"):
    """A terminal's file; when it is closed, the list that is given holds what it showed."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", "60")
    ours, theirs = pty.openpty()
    shown, parts = [], []

    def read():
        with contextlib.suppress(OSError):  # the other side is closed: the end
            while part := os.read(ours, 65_536):
                parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as terminal:
        yield terminal, shown
    reader.join()
    os.close(ours)
    shown.append(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode()))


def test_a_dumb_terminal_shows_lines(clock, monkeypatch):
    with on_a_terminal(monkeypatch, "dumb") as (terminal, shown):
        list(fb.progress(loop(2), file=terminal))
    assert shown == ["step 0/2\r\nstep 2/2   0:00 in all\r\n"]


def test_a_terminal_shows_a_bar_of_its_width_with_rates_values_and_what_compiles(clock, monkeypatch):
    with on_a_terminal(monkeypatch) as (terminal, shown):
        bar = fb.progress(loop(4), file=terminal)
        for tick in bar:
            bar.show(loss=0.25)
            step_for(clock, 2.0)
            if tick.step == 3:
                jax.jit(lambda x: step_for(clock, 1.5) or x)(1.0)
    drawn = [line.strip() for line in shown[0].replace("\r", "\n").split("\n")]
    assert max(map(len, drawn)) == 60
    assert re.search("━ step 3/4 0:02 left", shown[0])
    assert {"0.5 steps/s   1 examples/s", "loss 0.2500", "compiling <lambda>   1.5 s"} <= set(drawn)


def test_what_is_printed_into_a_file_stays_there(clock, monkeypatch):
    with on_a_terminal(monkeypatch) as (terminal, shown), monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.StringIO())
        for tick in fb.progress(loop(2), file=terminal):
            print("at", tick.step)
        assert sys.stdout.getvalue() == "at 1\nat 2\n"
    assert "at" not in shown[0]


def test_leaving_the_loop_early_ends_the_bar(monkeypatch):
    with on_a_terminal(monkeypatch) as (terminal, _):
        for _ in fb.progress(loop(10), file=terminal):
            break
        assert "progress" not in {thread.name for thread in threading.enumerate()}
        for _ in fb.progress(loop(2), file=terminal):  # a second live display would raise
            pass


def test_it_is_drawn_while_the_body_is_busy():
    drawn = threading.Event()
    with PROGRESS._Pulse(drawn.set):
        assert drawn.wait(60)


def test_values_are_read_when_they_are_shown_and_not_again():
    reads = []

    class OnDevice:
        shape, ndim = (), 0

        def __array__(self, dtype=None, copy=None):
            reads.append(dtype)
            return np.asarray(0.5)

    bar = fb.progress(loop(5), file=io.StringIO())
    for tick in bar:
        if tick.step == 2:
            bar.show(loss=OnDevice())
        assert bool(reads) == (tick.step >= 2)
        read = len(reads)
    assert len(reads) == read
    assert repr(bar) == "Progress(step 5/5, loss 0.5000)"


def test_watching_reads_no_batch_before_the_loop_does(clock):
    state = 0

    def rollouts():
        while state < 4:
            yield {"x": np.full(2, state)}

    batches, seen = rollouts(), []
    for tick in fb.progress(fb.loop(batches, until=fb.at(steps=3)), file=io.StringIO()):
        seen.append(int(tick.batch["x"][0]))
        state += 1
    assert seen == [0, 1, 2]
    assert int(next(batches)["x"][0]) == 3  # the fourth batch was not taken


def test_the_share_of_time_spent_waiting_for_data_is_shown(clock):
    class Slow:
        """A data set that takes a quarter of a second for a batch, by the test's clock."""

        data_wait_s = 0.0
        start, last_step = 0, 4

        def __iter__(self):
            for tick in loop(4):
                self.data_wait_s += 0.25
                yield tick

    bar = fb.progress(Slow(), file=(file := io.StringIO()))
    for _ in bar:
        step_for(clock, 16)
    assert "0.1 steps/s   0 examples/s   2 % waiting for data" in file.getvalue().splitlines()[-2]
