import itertools

import numpy as np
import pytest

from benchmarks import statistics


def test_the_interval_is_that_of_every_resample():
    """Of 5 rounds there are 3,125 resamples with replacement: all of them, counted out."""
    seconds, others = np.array([2.0, 2.2, 2.1, 3.0, 1.9]), np.array([1.0, 1.0, 1.1, 1.2, 1.0])
    medians = [np.median(chosen) for chosen in itertools.product(seconds / others, repeat=5)]
    low, high = np.quantile(medians, [0.025, 0.975])
    found = statistics.ratio(seconds.tolist(), others.tolist())
    assert found.median == np.median(seconds / others)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_what_slows_both_sides_of_a_round_cancels():
    noise = np.random.RandomState(0).uniform(1, 10, 9)
    found = statistics.ratio((1.5 * noise).tolist(), noise.tolist())
    assert found == (pytest.approx(1.5), pytest.approx(1.5), pytest.approx(1.5))


def test_difference_is_taken_round_by_round():
    found = statistics.difference([5.0, 7.0, 9.0], [1.0, 2.0, 3.0])
    assert found == (5.0, 4.0, 6.0)


def test_quantile():
    assert statistics.quantile(range(101), 0.99) == 99.0


@pytest.mark.parametrize(("seconds", "others"), [([1.0], [1.0, 2.0]), ([], [])])
def test_rounds_that_do_not_pair_are_refused(seconds, others):
    with pytest.raises(ValueError) as raised:
        statistics.ratio(seconds, others)
    expected = f"cannot pair {len(seconds)} rounds with {len(others)}: each side needs as many."
    assert str(raised.value) == expected
