"""Output that nobody reads: the body that prints goes on, and the run is told."""

import contextlib
import io
import os
import sys

import pytest

from fourbeat.runs.lost_output import noticed


@contextlib.contextmanager
def standing_for_stdout(stream):
    before, sys.stdout = sys.stdout, stream
    try:
        yield
    finally:
        sys.stdout = before


def test_a_pipe_without_a_reader_raises_nothing_and_is_told():
    reading, writing = os.pipe()
    os.close(reading)
    lost, done = [], []
    with open(writing, "w", buffering=1) as pipe, standing_for_stdout(pipe):
        with noticed(lambda: lost.append("lost")):
            for number in range(3):
                print("line", number)
                done.append(number)
            sys.stdout.writelines(["more\n", "still more\n"])
        assert sys.stdout is pipe
    assert (done, lost) == ([0, 1, 2], ["lost"])


def test_what_waits_in_a_buffer_is_noticed_in_the_end():
    reading, writing = os.pipe()
    os.close(reading)
    lost = []
    with open(writing, "w") as pipe, standing_for_stdout(pipe), noticed(lambda: lost.append("lost")):
        print("waits")
        assert not lost
    assert lost == ["lost"]


def test_output_that_is_read_stays_as_it_is_and_so_does_no_output():
    text = io.StringIO()
    with standing_for_stdout(text), noticed(lambda: pytest.fail("nothing is lost")):
        print("a", "b", sep="-")
        assert not sys.stdout.isatty()
    assert text.getvalue() == "a-b\n"
    with standing_for_stdout(None), noticed(lambda: pytest.fail("nothing is lost")):
        print("nowhere")
