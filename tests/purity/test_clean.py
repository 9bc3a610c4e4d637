"""No error on code that means the same under jit, and no change by looking at it."""

import jax
import numpy as np
import pytest

from fourbeat.purity import check
from fourbeat.testing import assert_pure
from tests.purity.clean_code import CLEAN

PLAIN_JAX = list(CLEAN)[: list(CLEAN).index("seeded generator held and never asked") + 1]


@pytest.mark.parametrize("name", CLEAN)
def test_no_error(name):
    fn, args = CLEAN[name]()
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(args) if isinstance(leaf, np.ndarray)]
    report = check(fn, *args)
    assert report.is_pure, str(report)
    assert not [each for each in report.findings if each.level == "warning"], str(report)
    assert_pure(fn, *args)
    after = [np.asarray(leaf) for leaf in jax.tree.leaves(args) if isinstance(leaf, np.ndarray)]
    assert all(map(np.array_equal, before, after))


@pytest.mark.parametrize("name", PLAIN_JAX)
def test_is_clean(name):
    """The oracle: jit gives what the eager function gives, in the second call too."""
    if name in ("Python number that must stay one", "static argument of a jitted method"):
        pytest.skip("takes a value that jit would trace")
    fn, args = CLEAN[name]()
    other, others = CLEAN[name]()
    jitted = jax.jit(other)
    for _ in range(2):
        for one, two in zip(jax.tree.leaves(fn(*args)), jax.tree.leaves(jitted(*others)), strict=True):
            if not jax.numpy.issubdtype(one.dtype, jax.dtypes.prng_key):
                np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
