"""Which arrays somebody else can still write: those are copied, what was freshly made is not."""

import weakref

import numpy as np
import pytest

from fourbeat.data.own_memory import make_own

BUFFER, HELD = np.zeros((4, 3), np.float32), []


def held(array):
    HELD[:] = [array]
    return array


FRESH = {
    "made": lambda: np.full((4, 3), 2.0),
    "gathered": lambda: BUFFER[[0, 2]],
    "reshaped": lambda: np.concatenate([BUFFER, BUFFER]).reshape(2, 4, 3),
}
HELD_ELSEWHERE = {
    "a buffer": lambda: BUFFER,
    "a view of a buffer": lambda: BUFFER[1:],
    "a new array that is kept": lambda: held(np.ones(3)),
    "a view of one that is kept": lambda: held(np.ones(4))[:2],
    "a new array that is exported": lambda: memoryview(held(memoryview(np.ones(3)))).obj,
    "memory of another kind": lambda: np.frombuffer(bytearray(16), np.float32),
}


@pytest.mark.parametrize("kind", FRESH)
def test_what_was_freshly_made_stays(kind):
    columns = {"x": FRESH[kind]()}
    before = id(columns["x"])
    make_own(columns)
    assert id(columns["x"]) == before


@pytest.mark.parametrize("kind", HELD_ELSEWHERE)
def test_what_something_else_refers_to_is_copied(kind):
    columns = {"x": HELD_ELSEWHERE[kind]()}
    before = columns["x"]
    values = before.copy()
    make_own(columns)
    assert not np.shares_memory(columns["x"], before) and np.array_equal(columns["x"], values)


def test_what_can_be_found_by_a_weak_reference_is_copied():
    columns = {"x": np.ones(3)}
    found = weakref.ref(columns["x"])
    make_own(columns)
    assert found() is None  # the copy has taken its place


def test_one_array_under_two_names_becomes_two():
    columns = dict.fromkeys(("x", "y"), np.ones(3))
    make_own(columns)
    assert not np.shares_memory(columns["x"], columns["y"])
