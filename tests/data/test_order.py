import numpy as np
import pytest

from fourbeat.data.order import EpochOrder


def test_the_stream_is_the_frozen_one():
    order = EpochOrder(10, 10, shuffle=True, seed=7)
    # Written down once: another stream would break the resuming of every older run.
    assert order(0).tolist() == [0, 1, 5, 7, 6, 9, 4, 3, 2, 8]
    assert order(3).tolist() == np.random.RandomState([7, 3]).permutation(10).tolist()
    assert order(0).dtype == np.int32


@pytest.mark.parametrize("shuffle", [True, False])
def test_beyond_the_rows_the_order_repeats_from_its_start(shuffle):
    order = EpochOrder(3, 8, shuffle=shuffle, seed=0)(5)
    assert order[3:].tolist() == [*order[:3], *order[:2]]
    assert sorted(order[:3]) == [0, 1, 2]


def test_neighbouring_epochs_are_cached_and_nothing_more():
    order = EpochOrder(100, 100, shuffle=True, seed=0)
    first, second = order(4), order(5)
    assert order(4) is first and order(5) is second
    order(6)
    assert order(5) is second
    assert order(4) is not first and np.array_equal(order(4), first)


def test_an_order_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        EpochOrder(4, 4, shuffle=False, seed=0)(0)[0] = 1
