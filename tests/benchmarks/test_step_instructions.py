"""How the instructions of a step are put together; counting takes minutes, so the counter is a stand-in."""

import json
import os

import pytest

from benchmarks import callgrind, step_instructions
from benchmarks.work import Side

SIDES = {name: Side("of:Toy", options={"name": name}) for name in ("plain", "broken", "logging")}


@pytest.fixture
def asked(monkeypatch):
    """What the stand-in counter was asked for: a line of the log is 50,000 instructions."""
    asked = []

    def totals(module, factory, settings, options, *, num_windows, all_threads, later):
        name = json.loads(options)["name"]
        asked.append((module, json.loads(factory), json.loads(settings), num_windows, all_threads, later))
        asked.append(len(os.sched_getaffinity(0)))
        if name == "broken":
            raise RuntimeError("valgrind ended with 1: no memory")
        return [3_100_000, 9_100_000, 3_100_000 + 50_000 * (name == "logging")]

    monkeypatch.setattr(callgrind, "installed", lambda: True)
    monkeypatch.setattr(callgrind, "totals", totals)
    return asked


def test_every_side_is_counted_on_one_core_and_one_that_fails_is_left_out(asked):
    told = []
    found = step_instructions.megainstructions({"threads": 1}, SIDES, told.append)
    assert found == {"plain": {"megainstructions": 3.0}, "logging": {"megainstructions": 3.0005}}
    assert told == [
        "plain: 3.00 million instructions a step",
        "broken: instructions not counted: valgrind ended with 1: no memory",
        "logging: 3.00 million instructions a step",
    ]
    one = [("benchmarks.step_instructions", "of:Toy", {"threads": 1}, 3, True, True), 1]
    assert asked == one * 3


def test_without_valgrind_nothing_is_counted_and_that_is_said(monkeypatch):
    monkeypatch.setattr(callgrind, "installed", lambda: False)
    told = []
    assert step_instructions.megainstructions({"threads": 1}, SIDES, told.append) == {}
    assert told == ["instructions not counted: valgrind is not installed"]


def test_the_process_that_is_counted_runs_the_steps_that_the_formula_is_of(monkeypatch):
    told, runs = {"within": None}, []

    class Toy:
        line_every = None

        def __init__(self, settings, *, name):
            assert (settings, name) == ({"threads": 1}, "plain")

        def run(self, amount):
            runs.append((amount, self.line_every, told["within"]))

    monkeypatch.setattr(step_instructions, "load", lambda factory: Toy)
    monkeypatch.setattr(step_instructions.gc, "disable", lambda: None)
    monkeypatch.setattr(callgrind, "begin", lambda: told.update(within="counted"))
    step_instructions._counted("of:Toy", {"threads": 1}, {"name": "plain"})
    assert runs == [(1, 1, None), (1, 100, "counted"), (3, 100, "counted"), (1, 1, "counted")]
