"""How the instructions of a step are put together; counting takes minutes, so the counter is a stand-in."""

import json
import os

import pytest

from benchmarks import callgrind, counted_steps
from benchmarks.work import Side

SIDES = {
    "plain": Side("of:Toy"),
    "broken": Side("of:Toy", options={"broken": True}),
    "logging": Side("of:Toy", options={"logging": True}),
}


@pytest.fixture
def asked(monkeypatch):
    """What the stand-in counter was asked for: a line of the log is 50,000 instructions."""
    asked = []

    def totals(module, factory, settings, options, **how):
        asked.append((module, json.loads(factory), json.loads(settings), how, len(os.sched_getaffinity(0))))
        if json.loads(options).get("broken"):
            raise RuntimeError("valgrind ended with 1: no memory")
        return [3_100_000, 9_100_000, 3_150_000][: how["num_windows"]]

    monkeypatch.setattr(callgrind, "installed", lambda: True)
    monkeypatch.setattr(callgrind, "totals", totals)
    return asked


def test_every_side_is_counted_on_one_core_and_one_that_fails_is_left_out(asked):
    told = []
    found = counted_steps.megainstructions({"threads": 1}, SIDES, told.append)
    assert found == {"plain": {"megainstructions": 3.0}, "logging": {"megainstructions": 3.0005}}
    assert told == [
        "plain: 3.00 million instructions a step",
        "broken: instructions not counted: valgrind ended with 1: no memory",
        "logging: 3.00 million instructions a step",
    ]
    how = {"all_threads": True, "later": True}
    assert asked == [
        ("benchmarks.counted_steps", "of:Toy", {"threads": 1}, {"num_windows": num_windows, **how}, 1)
        for num_windows in (2, 2, 3)
    ]


def test_without_valgrind_nothing_is_counted_and_that_is_said(monkeypatch):
    monkeypatch.setattr(callgrind, "installed", lambda: False)
    told = []
    assert counted_steps.megainstructions({"threads": 1}, SIDES, told.append) == {}
    assert told == ["instructions not counted: valgrind is not installed"]


@pytest.mark.parametrize(
    ("options", "with_line"), [({}, []), ({"logging": True}, [(1, 1, True)]), ({"logging": False}, [])]
)
def test_the_process_that_is_counted_runs_the_steps_that_the_formula_is_of(monkeypatch, options, with_line):
    runs, begun = [], []

    class Toy:
        def __init__(self, settings, **given):
            assert (settings, given) == ({"threads": 1}, options)

        def run(self, amount):
            runs.append((amount, self.line_every, bool(begun)))

    monkeypatch.setattr(counted_steps, "load", lambda factory: Toy)
    monkeypatch.setattr(counted_steps.gc, "disable", lambda: None)
    monkeypatch.setattr(callgrind, "begin", lambda: begun.append(True))
    counted_steps._counted("of:Toy", {"threads": 1}, options)
    assert runs == [(1, 1, False), (1, 100, True), (3, 100, True), *with_line]
