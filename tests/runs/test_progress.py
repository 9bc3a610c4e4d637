"""progress: a bar in a terminal, plain lines elsewhere, the ticks untouched."""

import contextlib
import importlib
import io
import itertools
import os
import pty
import re

import numpy as np
import pytest

import fourbeat as fb


class Clock:
    """Moves by itself, so that no test sleeps."""

    def __init__(self, seconds_a_look):
        self.looks = itertools.count()
        self.seconds_a_look = seconds_a_look

    def monotonic(self):
        return next(self.looks) * self.seconds_a_look


@pytest.fixture
def clock(monkeypatch):
    def set_to(seconds_a_look):
        # the module: its name in the package is the function's
        module = importlib.import_module("fourbeat.runs.progress")
        monkeypatch.setattr(module, "time", Clock(seconds_a_look))

    return set_to


def loop(steps):
    return fb.loop([{"x": np.ones(2)}], until=fb.at(steps=steps))


def test_without_a_terminal_a_line_appears_every_15_seconds(clock):
    clock(5.0)
    file = io.StringIO()
    assert [tick.step for tick in fb.progress(loop(7), file=file)] == list(range(1, 8))
    assert file.getvalue() == "step 3/7   0.2 steps/s   20 s left\nstep 6/7   0.2 steps/s   5 s left\n"


def test_a_loop_without_a_foreseeable_end_shows_no_time_left(clock):
    clock(20.0)
    file = io.StringIO()
    ticks = fb.loop(iter([{"x": np.ones(2)}] * 2), until=fb.stop_signal())
    assert len(list(fb.progress(ticks, file=file))) == 2
    assert file.getvalue().splitlines()[0] == "step 1   0.1 steps/s"


def shown_on_a_terminal(steps):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        for tick in fb.progress(loop(steps), file=terminal):
            assert tick.step <= steps
    shown = b""
    with contextlib.suppress(OSError):  # the other side is closed: the end
        while read := os.read(ours, 65_536):
            shown += read
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_a_dumb_terminal_shows_lines(clock, monkeypatch):
    clock(20.0)
    monkeypatch.setenv("TERM", "dumb")
    assert (
        shown_on_a_terminal(2)
        == "step 1/2   0.1 steps/s   20 s left\r\nstep 2/2   0.1 steps/s   0 s left\r\n"
    )


def test_a_terminal_shows_a_bar_with_steps_a_second_and_time_left(clock, monkeypatch):
    clock(1.0)
    monkeypatch.setenv("TERM", "xterm")
    shown = shown_on_a_terminal(4)
    assert "4/4 steps" in shown
    assert "1.0 steps/s" in shown
    assert "left" in shown


def test_leaving_the_loop_early_ends_the_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        for _ in fb.progress(loop(10), file=terminal):
            break
        for _ in fb.progress(loop(2), file=terminal):  # a second live display would raise
            pass
    os.close(ours)
