"""Ticks against an oracle that walks every step and asks each duration whether it falls there."""

import itertools
import sys
import warnings
from fractions import Fraction
from math import floor, inf
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbeat.compiling.blocks import Block
from fourbeat.looping import (
    EndedEarlyWarning,
    InexactResumeWarning,
    StartBeyondEndWarning,
    at,
    every,
    loop,
)
from fourbeat.looping.durations import exact, parts_of
from fourbeat.looping.iteration import Loop

LAWS = settings(deadline=None, max_examples=150, derandomize=True)


class Oracle:
    """Counts from scratch at every step: sizes of each batch of an epoch, over and over."""

    def __init__(self, sizes, until):
        self.sizes = sizes
        self.limits = parts_of(until)
        self.length = inf
        self.length = next(s for s in itertools.count(1) if any(self.reached(x, s) for x in self.limits))

    def count(self, unit, step):
        length = len(self.sizes)
        return {
            "steps": lambda: step,
            "examples": lambda: (step // length) * sum(self.sizes) + sum(self.sizes[: step % length]),
            "epochs": lambda: Fraction(step, length),
            "fraction": lambda: Fraction(step, self.length),
        }[unit]()

    def reached(self, limit, step):
        return self.count(limit.unit, step) >= exact(limit.amount)

    def falls(self, mark, step):
        for part in parts_of(mark):
            before = self.count(part.unit, step - 1) / exact(part.amount)
            now = self.count(part.unit, step) / exact(part.amount)
            if floor(now) > floor(before) if part.repeats else before < 1 <= now:
                return True
        return False

    def ticks(self, start, marks, size, same_shape=False, across_epochs=True):
        """(step, num_steps, epoch, examples, is_last, marks) of each tick."""
        ticks, num_steps = [], 0
        for step in range(start + 1, self.length + 1):
            num_steps += 1
            fallen = [mark for mark in marks if self.falls(mark, step)]
            epoch, place = divmod(step, len(self.sizes))
            is_last = step == self.length
            odd_one_next = self.sizes[place] != self.sizes[place - 1] and not same_shape
            pass_ends = place == 0 and not across_epochs
            if num_steps == size or fallen or pass_ends or is_last or odd_one_next:
                ticks.append((step, num_steps, epoch, self.count("examples", step), is_last, fallen))
                num_steps = 0
        return ticks


class Unsized:
    """Iterated anew for each epoch, of unknown length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class Sized(Unsized):
    def __len__(self):
        return len(self.batches)


class ByStep:
    """Batches by global step, of one shape, with sizes that may count less: as padded ones do."""

    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, step):
        return {"id": np.full(2, step % len(self.sizes))}

    def examples(self, step):
        epoch, place = divmod(step, len(self.sizes))
        return epoch * sum(self.sizes) + sum(self.sizes[:place])

    def stacked(self, step, num_steps, size):
        return Block.stack([self[step + i] for i in range(num_steps)], size).batch


def plain(sizes):
    return [{"id": np.full(count, index)} for index, count in enumerate(sizes)]


SOURCES = {
    "list": lambda sizes: plain(sizes),
    "unsized": lambda sizes: Unsized(plain(sizes)),
    "sized": lambda sizes: Sized(plain(sizes)),
    "iterator": lambda sizes: iter(plain(sizes)),
    "by step": ByStep,
}
WHOLE = st.integers(1, 12)
PARTS = st.one_of(
    st.integers(1, 3),
    st.sampled_from([0.5, 0.1, 1 / 3, 2.5, 1.75, Fraction(2, 7)]),
)
SHARES = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, Fraction(5, 7), 1])


def durations(units, kinds=(every, at)):
    values = {"steps": WHOLE, "examples": WHOLE, "epochs": PARTS, "fraction": SHARES}
    values["passes"] = st.integers(1, 3)
    single = st.one_of(
        st.builds(
            lambda kind, unit, value: kind(**{"epochs" if unit == "passes" else unit: value}),
            st.sampled_from(kinds),
            st.just(unit),
            values[unit],
        )
        for unit in units
    )
    return st.one_of(single, st.builds(lambda a, b: a | b, single, single))


# What can be placed: units of the marks and of `until`, given what is known of the source.
UNITS = {
    "list": (["steps", "examples", "epochs", "fraction"], ["steps", "examples", "epochs"]),
    "by step": (["steps", "examples", "epochs", "fraction"], ["steps", "examples", "epochs"]),
    "sized": (["steps", "examples", "epochs", "fraction"], ["steps", "epochs"]),
    "unsized": (["steps", "examples", "passes"], ["steps", "examples", "passes"]),
    "iterator": (["steps", "examples", "passes"], ["steps", "examples", "passes"]),
}


def seen(tick, marks):
    fallen = [mark for mark in marks if mark in tick]
    return (tick.step, tick.num_steps, tick.epoch, tick.examples, tick.is_last, fallen)


def ids(tick):
    """Which batches a tick holds, by the number in their first entry."""
    if not isinstance(tick.batch, Block):
        return [int(tick.batch["id"][0])]
    return [int(tick.batch.take(i)["id"][0]) for i in range(int(tick.batch.num_steps))]


def warned_of(kind, sizes, until, start):
    """The warnings of a loop: what it reads to know its end, and where that end is."""
    end = Oracle(sizes, until).length
    is_stream = kind not in ("list", "by step")
    foreseen = [x for x in parts_of(until) if x.unit == "steps" or exact(x.amount).denominator > 1]
    first_foreseen = min((Oracle(sizes, limit).length for limit in foreseen), default=inf)
    if not is_stream or first_foreseen <= start:  # nothing is read
        return {StartBeyondEndWarning} if (first_foreseen if is_stream else end) < start else set()
    kinds = {InexactResumeWarning}
    if kind == "iterator" and len(sizes) < end:
        return kinds | {EndedEarlyWarning}
    return kinds | ({StartBeyondEndWarning} if end < start else set())


@pytest.mark.parametrize("kind", SOURCES)
@LAWS
@given(data=st.data())
def test_ticks_are_those_of_the_oracle(kind, data):
    sizes = data.draw(st.lists(st.integers(1, 2), min_size=1, max_size=6))
    of_marks, of_until = UNITS[kind]
    marks = data.draw(st.lists(durations(of_marks), max_size=3, unique=True))
    until = data.draw(durations(of_until))
    start, size = data.draw(st.integers(0, 14)), data.draw(st.sampled_from([1, 1, 2, 3, 8]))
    oracle = Oracle(sizes, until)
    if kind == "iterator":
        oracle.length = min(oracle.length, len(sizes))
    across_epochs = kind in ("list", "by step")
    expected = oracle.ticks(start, marks, size, same_shape=kind == "by step", across_epochs=across_epochs)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ticks = loop(SOURCES[kind](sizes), until=until, start=start, marks=marks, steps_per_call=size)
        got = [(seen(tick, marks), ids(tick)) for tick in ticks]
    assert [turn for turn, _ in got] == expected
    assert {warning.category for warning in told} == warned_of(kind, sizes, until, start)
    steps = [batch for _, batches in got for batch in batches]
    assert steps == [step % len(sizes) for step in range(start, max(start, oracle.length))]


@LAWS
@given(data=st.data())
def test_no_drift_far_out(data):
    length = data.draw(st.integers(1, 1000))
    start = 10**9 + data.draw(st.integers(0, 5000))
    marks = data.draw(st.lists(durations(["steps", "examples", "epochs"], [every]), max_size=3))
    sizes = [3] * length
    size = data.draw(st.sampled_from([1, 7]))
    oracle = Oracle(sizes, at(steps=1))
    oracle.length = start + 20
    ticks = loop(ByStep(sizes), until=at(steps=start + 20), start=start, marks=marks, steps_per_call=size)
    assert [seen(tick, marks) for tick in ticks] == oracle.ticks(start, marks, size)


@pytest.mark.filterwarnings("ignore::fourbeat.looping.InexactResumeWarning")
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("kind", ["list", "unsized", "by step"])
def test_a_run_in_two_parts_is_the_run_in_one(kind, size):
    sizes, until = [2, 2, 2, 1], at(epochs=3)
    marks = [every(steps=5), every(examples=4), every(epochs=1)]

    def turns(start, end):
        ticks = loop(SOURCES[kind](sizes), until=end, start=start, marks=marks, steps_per_call=size)
        return [
            (tick.step - tick.num_steps + i + 1, batch, seen(tick, marks)[5] if last else [])
            for tick in ticks
            for i, batch in enumerate(ids(tick))
            for last in [i + 1 == tick.num_steps]
        ]

    whole = turns(0, until)
    assert len(whole) == 12
    for stop in range(1, 12):
        assert turns(0, at(steps=stop)) + turns(stop, until) == whole


def test_a_fraction_is_of_the_first_limit_reached():
    ticks = loop(
        plain([1] * 10),
        until=at(epochs=5) | at(steps=20) | at(seconds=1e9),
        marks=[every(fraction=0.25)],
    )
    assert [tick.step for tick in ticks if every(fraction=0.25) in tick] == [5, 10, 15, 20]


def test_a_fraction_of_examples_in_a_stream_of_unknown_length():
    half = at(fraction=0.5)
    ticks = loop(Unsized(plain([3, 3, 3])), until=at(examples=10), marks=[half])
    assert [(tick.step, half in tick) for tick in ticks] == [(1, False), (2, True), (3, False), (4, False)]


def test_seconds_fall_at_the_first_tick_after_they_have_passed(monkeypatch):
    clock = iter([100.0, 100.0, 101.0, 104.5, 105.0, 108.2, 109.6, 110.0])
    fake = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr(sys.modules[Loop.__module__], "time", fake)
    often, once = every(seconds=4), at(seconds=5)
    ticks = loop(plain([1] * 10), until=at(seconds=10), start=7, marks=[often, once])
    assert [(tick.step, often in tick, once in tick, tick.is_last) for tick in ticks] == [
        (8, False, False, False),
        (9, False, False, False),
        (10, True, False, False),
        (11, False, True, False),
        (12, False, False, False),
        (13, True, False, False),
        (14, False, False, True),
    ]


ERRORS = {
    "fraction without length": (
        lambda: loop(plain([1]), until=at(seconds=9), marks=[every(fraction=0.5)]),
        ValueError,
        "cannot place every(fraction=0.5): until=at(seconds=9) sets no length that can be foreseen. Add a "
        "limit, such as until=at(epochs=5) | stop_signal().",
    ),
    "fraction of itself": (
        lambda: loop(plain([1]), until=at(fraction=0.5)),
        ValueError,
        "until=at(fraction=0.5) is a fraction of the length that until itself sets. End the loop with "
        "at(steps=), at(examples=) or at(epochs=).",
    ),
    "part of an unknown epoch": (
        lambda: loop(Unsized(plain([1])), until=at(steps=3), marks=[every(epochs=0.5)]),
        ValueError,
        "cannot place every(epochs=0.5) in a stream of unknown length: a part of an epoch needs its "
        "number of steps. Give batches a __len__, or use whole epochs, steps or examples.",
    ),
    "fraction of unknown epochs": (
        lambda: loop(Unsized(plain([1])), until=at(epochs=1), marks=[at(fraction=0.25)]),
        ValueError,
        "cannot place at(fraction=0.25), which is 0.25 epochs, in a stream of unknown length: a part of an "
        "epoch needs its number of steps. Give batches a __len__, or use whole epochs, steps or examples.",
    ),
    "fraction of several limits": (
        lambda: loop(Unsized(plain([1])), until=at(epochs=1) | at(steps=3), marks=[at(fraction=1)]),
        ValueError,
        "cannot place at(fraction=1): which limit of until=at(epochs=1) | at(steps=3) comes first is "
        "unknown in a stream of unknown length. Give batches a __len__, or use a single limit.",
    ),
    "one mark": (
        lambda: loop(plain([1]), until=at(steps=3), marks=every(steps=1)),
        TypeError,
        "marks takes a list: marks=[every(steps=1)].",
    ),
    "no mark": (
        lambda: loop(plain([1]), until=at(steps=3), marks=[37]),
        TypeError,
        "marks holds 37, which is no mark. Marks are every(...) and at(...), and several joined with |; a "
        "stop signal belongs in until.",
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(kind):
    call, error, text = ERRORS[kind]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text
