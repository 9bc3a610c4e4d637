import numpy as np
import pytest

from fourbeat.data.order import Drawn, PerEpoch, Permutation


def shuffled(num_examples, batch_size, *, seed=0, remainder="pad"):
    return Permutation().of(num_examples, batch_size, shuffle=True, seed=seed, remainder=remainder)


def test_the_stream_is_the_frozen_one():
    order = shuffled(10, 10, seed=7)
    # Written down once: another stream would break the resuming of every older run.
    assert order.index(0).tolist() == [[0, 1, 5, 7, 6, 9, 4, 3, 2, 8]]
    assert order.index(3).tolist() == [np.random.RandomState([7, 3]).permutation(10).tolist()]
    assert order.index(0).dtype == np.int32


@pytest.mark.parametrize("shuffle", [True, False])
def test_padding_repeats_the_order_from_its_start(shuffle):
    order = Permutation().of(3, 8, shuffle=shuffle, seed=0, remainder="pad")
    (visited,) = order.index(5).tolist()
    assert visited[3:] == [*visited[:3], *visited[:2]]
    assert sorted(visited[:3]) == [0, 1, 2]
    assert order.sizes(5).tolist() == [3]


@pytest.mark.parametrize(
    ("remainder", "sizes", "dropped"), [("pad", [4, 4, 2], 0), ("drop", [4, 4], 2)], ids=["pad", "drop"]
)
def test_sizes_and_counts(remainder, sizes, dropped):
    order = shuffled(10, 4, remainder=remainder)
    assert order.sizes(0).tolist() == sizes
    assert order.dropped == dropped
    assert order.num_examples == sum(sizes)
    assert [order.examples_before(1, place) for place in range(len(sizes) + 1)] == [
        sum(sizes[:place]) for place in range(len(sizes) + 1)
    ]


def test_neighbouring_epochs_are_cached_and_nothing_more():
    order = PerEpoch(lambda epoch: np.arange(epoch, epoch + 3))
    first, second = order(4), order(5)
    assert order(4) is first and order(5) is second
    order(6)
    assert order(5) is second
    assert order(4) is not first and np.array_equal(order(4), first)


def test_an_order_cannot_be_written_to():
    order = Drawn(4, 4, "pad")
    for array in (order.index(0), order.sizes(0)):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1


def test_in_turn_there_is_no_last_epoch():
    assert Drawn(4, 2, "pad").index(2**40).tolist() == [[0, 1], [2, 3]]
    with pytest.raises(IndexError, match="has no order"):
        shuffled(4, 2).index(2**32)
