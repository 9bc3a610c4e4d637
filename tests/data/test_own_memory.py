"""Which arrays somebody else can still write: those are copied, what was freshly made is not."""

import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.data.own_memory import make_own
from tests.kinds import assert_bit_equal

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


LARGE = {
    "float32": np.random.RandomState(0).standard_normal((300, 300)).astype(np.float32),
    "bfloat16": np.random.RandomState(0).standard_normal((600, 300)).astype(jnp.bfloat16),
    "columns first": np.asfortranarray(np.arange(90_000, dtype=np.int32).reshape(300, 300)),
    "every second one": np.arange(180_000, dtype=np.uint32)[::2],
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_copy_can_be_shared_by_a_device_and_no_later_write_is_seen(kind):
    held = LARGE[kind].copy(order="A")
    columns = {"x": held}
    make_own(columns)
    assert columns["x"].__array_interface__["data"][0] % 64 == 0
    assert not columns["x"].flags.writeable
    on_device = jax.jit(lambda x: x)(columns["x"])
    held[...] = 0
    assert_bit_equal(on_device, LARGE[kind])


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
