"""Durations are values: equal ones are one mark, whatever they were built from."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbeat.looping import at, every, stop_signal
from fourbeat.looping.durations import exact

EQUAL = {
    "same": (every(steps=37), every(steps=37)),
    "numpy": (every(steps=np.int64(37)), every(steps=37)),
    "float and int": (at(epochs=1.0), at(epochs=1)),
    "float and fraction": (at(epochs=0.5), at(epochs=Fraction(1, 2))),
    "joined in another order": (every(steps=1) | at(epochs=2), at(epochs=2) | every(steps=1)),
    "joined twice": (every(steps=1) | every(steps=1) | at(epochs=2), every(steps=1) | at(epochs=2)),
    "joined in another grouping": (
        every(steps=1) | (at(epochs=2) | at(seconds=3)),
        (every(steps=1) | at(epochs=2)) | at(seconds=3),
    ),
}


@pytest.mark.parametrize("kind", EQUAL)
def test_equal_durations_have_one_hash(kind):
    one, other = EQUAL[kind]
    assert one == other and hash(one) == hash(other)


def test_unlike_durations_differ():
    durations = [
        every(steps=1),
        at(steps=1),
        every(epochs=1),
        every(steps=2),
        every(steps=1) | at(steps=1),
    ]
    assert len(set(durations)) == len(durations)


REPRS = {
    "every(steps=37)": every(steps=37),
    "at(epochs=0.5)": at(epochs=0.5),
    "at(examples=1000)": at(examples=1000),
    "at(epochs=5) | stop_signal(SIGINT, SIGTERM, SIGHUP)": at(epochs=5) | stop_signal(),
    "every(fraction=1/3)": every(fraction=Fraction(1, 3)),
}


@pytest.mark.parametrize("text", REPRS)
def test_repr(text):
    assert repr(REPRS[text]) == text


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.floats(min_value=1e-12, max_value=1e12))
def test_a_float_is_read_as_a_fraction_that_rounds_to_it(value):
    assert float(exact(value)) == value


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.integers(1, 1000), st.integers(1, 1000))
def test_a_quotient_is_read_as_the_fraction_it_was(numerator, denominator):
    assert exact(numerator / denominator) == Fraction(numerator, denominator)


def one_unit(seen, call="every"):
    return (
        f"{call}() takes exactly one unit and got {seen}. Give one of steps=, examples=, epochs=, "
        "seconds=, fraction=, and join several durations with |."
    )


ERRORS = {
    "no unit": (lambda: every(), TypeError, one_unit("none")),
    "two units": (lambda: at(steps=3, epochs=1), TypeError, one_unit("steps=3, epochs=1", "at")),
    "zero": (
        lambda: every(steps=0),
        ValueError,
        "every(steps=0): steps must be finite and above 0; nothing falls at 0.",
    ),
    "negative": (
        lambda: at(epochs=-1.5),
        ValueError,
        "at(epochs=-1.5): epochs must be finite and above 0; nothing falls at 0.",
    ),
    "nan": (
        lambda: every(seconds=float("nan")),
        ValueError,
        "every(seconds=nan): seconds must be finite and above 0; nothing falls at 0.",
    ),
    "infinite": (
        lambda: at(epochs=float("inf")),
        ValueError,
        "at(epochs=inf): epochs must be finite and above 0; nothing falls at 0.",
    ),
    "bool": (
        lambda: every(steps=True),
        TypeError,
        "every(steps=True): steps takes a whole number (int), not bool.",
    ),
    "float steps": (
        lambda: every(examples=1e6),
        TypeError,
        "every(examples=1000000.0): examples takes a whole number (int), not float.",
    ),
    "text": (
        lambda: at(seconds="9"),
        TypeError,
        "at(seconds='9'): seconds takes a number, not str.",
    ),
    "fraction above 1": (
        lambda: at(fraction=1.5),
        ValueError,
        "at(fraction=1.5): fraction is a part of the loop's length, above 0 and at most 1.",
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(kind):
    call, error, text = ERRORS[kind]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


def test_only_durations_and_signals_join():
    with pytest.raises(TypeError):
        every(steps=1) | 5
