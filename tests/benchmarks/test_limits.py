"""The bare reproductions compute what they compare."""

import jax
import numpy as np
import pytest

from benchmarks import limits


@pytest.mark.parametrize("name", limits.LIMITS)
def test_all_ways_of_a_limit_compute_the_same(name):
    steps, state, x = limits.LIMITS[name]()
    seen = [jax.tree.leaves(step(jax.tree.map(jax.numpy.copy, state), x)[0]) for step in steps.values()]
    for other in seen[1:]:
        for leaf, expected in zip(other, seen[0], strict=True):
            np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-5)


def test_it_prints_each_way_with_its_ratio(capsys):
    limits.main(["--rounds", "1", "--calls", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in lines if line.startswith("  ")] == [
        "XLA's choice",
        "Eigen's",
        "applied always",
        "chosen by a where",
        "chosen by a conditional",
        "made again in the conditional",
        "at rest",
        "gathered and scaled",
    ]
