"""A shuffle by groups: each example once, a pure function of seed and epoch, few groups at any place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbeat.data.group_order import ByGroups


def visited(group_of, mixed, *, seed=0, epoch=0, batch_size=3, shuffle=True):
    order = ByGroups(lambda: group_of, mixed)
    steps = order.of(len(group_of), batch_size, shuffle=shuffle, seed=seed, remainder="pad")
    return steps.index(epoch).reshape(-1)[: len(group_of)]


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    mixed=st.integers(1, 14),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 3),
)
def test_each_example_comes_once_and_few_groups_are_open(sizes, mixed, seed, epoch):
    group_of = np.repeat(np.arange(len(sizes)), sizes)
    numbers = visited(group_of, mixed, seed=seed, epoch=epoch)
    assert sorted(numbers) == list(range(len(group_of)))
    assert np.array_equal(numbers, visited(group_of, mixed, seed=seed, epoch=epoch))
    # a group is open from its first example to its last, around the ring
    doubled = np.concatenate([group_of[numbers]] * 2)
    for group in range(len(sizes)):
        places = np.flatnonzero(group_of[numbers] == group)
        gaps = np.diff(np.append(places, places[0] + len(numbers)))
        start = places[(np.argmax(gaps) + 1) % len(places)]
        others = {int(one) for one in doubled[start : start + len(numbers) - gaps.max() + 1]}
        assert len(others) <= max(2 * min(mixed, len(sizes)) - 1, 1)


def test_the_order_is_frozen():
    numbers = visited(np.repeat([0, 1, 2, 3], 3), 2, seed=5, epoch=1)
    assert numbers.tolist() == [11, 9, 5, 3, 7, 4, 6, 1, 8, 0, 2, 10]


def test_another_epoch_and_another_seed_draw_anew_and_without_a_shuffle_it_is_in_turn():
    group_of = np.repeat(np.arange(8), 4)
    orders = [visited(group_of, 3, seed=seed, epoch=epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0)]]
    assert len({tuple(order) for order in orders}) == 3
    assert visited(group_of, 3, shuffle=False).tolist() == list(range(32))


def test_all_groups_in_the_window_are_a_permutation_like_any_other():
    """Every place of the epoch sees every example about equally often."""
    group_of = np.repeat(np.arange(3), 4)
    first = np.array([visited(group_of, 5, epoch=epoch)[0] for epoch in range(600)])
    counts = np.bincount(first, minlength=12)
    assert counts.min() > 20 and counts.max() < 90  # 50 each; 5.6 standard deviations


@pytest.mark.parametrize("mixed", [1, 4])
def test_the_first_batches_are_mixed_as_well_as_the_others(mixed):
    group_of = np.repeat(np.arange(16), 50)
    groups = group_of[visited(group_of, mixed, batch_size=100)].reshape(-1, 100)
    counts = [len(set(batch)) for batch in groups.tolist()]
    assert min(counts) >= mixed
    assert max(counts) <= mixed + 4
