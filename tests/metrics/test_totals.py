import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbeat.metrics import Mean, totals

LOOP = 1000


def add_once(total, amount):
    return totals.add(total, amount)


def add_in_loop(total, amount):
    return jax.lax.fori_loop(0, LOOP, lambda _, t: totals.add(t, amount), total)


def add_in_scan(total, amount):
    return jax.lax.scan(lambda t, a: (totals.add(t, a), None), total, jnp.full(LOOP, amount))[0]


def add_unrolled(total, amount):
    for _ in range(20):
        total = totals.add(total, amount)
    return total


WAYS = {add_once: 1, add_in_loop: LOOP, add_in_scan: LOOP, add_unrolled: 20}
add_jitted = jax.jit(add_once)


def exact(total):
    """The pair as one float64 number, which holds it exactly."""
    return float(np.float64(total[0]) + np.float64(total[1]))


@pytest.mark.parametrize("amount", [1.0, 0.75])
@pytest.mark.parametrize("is_constant", [False, True])  # a compiler folds constants together
@pytest.mark.parametrize("way", WAYS)
def test_ones_are_counted_past_where_float32_stops(amount, is_constant, way):
    compiled = jax.jit(way)
    if is_constant:
        folded = jax.jit(lambda total: way(total, jnp.float32(amount)))
        compiled = lambda total, _: folded(total)
    for start in (2**24 - 1, 2**24, 2**25 + 2, 1e9, 3 * 2.0**40):
        total = add_jitted(totals.zeros(), jnp.float32(start))
        seen = exact(total)
        for _ in range(3):
            total = compiled(total, jnp.float32(amount))
        expected = seen + 3 * WAYS[way] * amount
        assert exact(total) == expected
        assert float(totals.read(total)) == float(np.float32(expected))


def test_a_plain_float32_total_would_fail_that_test():
    total = jnp.float32(2**24)
    for _ in range(3):
        total = total + 1
    assert float(total) == 2**24


@given(st.lists(st.floats(-1e9, 1e9, width=32), max_size=30), st.integers(0, 30))
@settings(deadline=None, max_examples=100, derandomize=True)
def test_a_total_is_the_exact_sum_rounded_and_merging_is_adding(amounts, cut):
    one = two = totals.zeros()
    for index, amount in enumerate(amounts):
        if index < cut:
            one = add_jitted(one, jnp.float32(amount))
        else:
            two = add_jitted(two, jnp.float32(amount))
    # XLA on CPU may take a number below the smallest normal one to be 0
    slack = 2.0**-44 * math.fsum(map(abs, amounts)) + 2.0**-126
    assert exact(totals.merge(one, two)) == pytest.approx(math.fsum(amounts), rel=0, abs=slack)


@pytest.mark.parametrize("size", [4, 1000])  # fewer numbers than amounts, and more
def test_amounts_are_added_at_their_places_past_where_float32_stops(size):
    places = np.array([3, 0, 3, 3, 1, 0, 3], np.int32)
    amounts = np.array([1, 2, 0.5, 3, 0, 0.25, 7], np.float32)
    add_at = jax.jit(totals.add_at)
    total = totals.add(totals.zeros(size), jnp.full(size, 2.0**24, jnp.float32))
    expected = np.full(size, 2.0**24)
    for _ in range(3):
        total = add_at(total, places, amounts)
        np.add.at(expected, places, amounts.astype(np.float64))
    np.testing.assert_array_equal(np.asarray(total, np.float64).sum(0), expected)


@pytest.mark.parametrize("amount", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays(amount):
    total = add_jitted(add_jitted(totals.zeros(), jnp.float32(amount)), jnp.float32(1))
    np.testing.assert_equal(np.asarray(totals.read(total)), np.float32(amount))
    merged = totals.merge(totals.zeros(), total)
    np.testing.assert_equal(np.asarray(totals.read(merged)), np.float32(amount))


def test_a_mean_of_more_than_2_24_examples_is_exact():
    update = jax.jit(lambda metric, value: metric.update(value=value))
    chunk = np.ones(2**22 + 1, np.float32)  # 5 of them are more than float32 can count
    metric = Mean("value")
    for scale in (1, 1, 1, 1, 3):
        metric = update(metric, scale * chunk)
    assert exact(metric.sums[:, 1]) == 5 * (2**22 + 1)
    np.testing.assert_allclose(metric.compute(), 7 / 5, rtol=2.0**-23)


def test_every_total_is_a_buffer_of_its_own():
    made = [totals.zeros(3) for _ in range(4)]
    buffers = [total.unsafe_buffer_pointer() for total in made]
    assert len(set(buffers)) == 4
