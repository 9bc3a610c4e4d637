"""What starts a training in the benchmarks is the same arrays on both sides."""

import jax
import numpy as np

from benchmarks.peers import starting
from benchmarks.works.starting import WORKS


def test_both_sides_make_the_same_arrays():
    by_hand, ours = starting.InitByHand({}, num_layers=2), starting.Init({}, num_layers=2)
    (params, opt_state), state = by_hand.start(), ours.start()
    for one, other in ((params, state.params), (opt_state, state.opt_state), (params, state.params)):
        for leaf, expected in zip(jax.tree.leaves(other), jax.tree.leaves(one), strict=True):
            np.testing.assert_array_equal(leaf, expected)
    assert ours.scores() == by_hand.scores() == {"leaves": 4.0}
    assert [work.sides[work.against].factory.split(":")[1] for work in WORKS] == ["InitByHand"] * 2
