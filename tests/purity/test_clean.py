"""No error on code that means the same under jit, and no change by looking at it."""

import jax
import numpy as np
import pytest

from fourbeat.purity import check
from fourbeat.testing import assert_pure
from tests.purity.clean_code import CLEAN

TAKES_A_STATIC_VALUE = ("Python number that must stay one", "static argument of a jitted method")
PLAIN_JAX = [name for name in list(CLEAN)[:22] if name not in TAKES_A_STATIC_VALUE]


@pytest.mark.parametrize("name", CLEAN)
def test_no_error(name):
    fn, args = CLEAN[name]()
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(args) if isinstance(leaf, np.ndarray)]
    report = check(fn, *args)
    assert report.ok, str(report)
    assert not [each for each in report.findings if each.level == "warning"], str(report)
    assert_pure(fn, *args)
    after = [np.asarray(leaf) for leaf in jax.tree.leaves(args) if isinstance(leaf, np.ndarray)]
    assert all(map(np.array_equal, before, after))


@pytest.mark.parametrize("name", PLAIN_JAX)
def test_is_clean(name):
    """The oracle: jit gives what the eager function gives, in the second call too."""
    fn, args = CLEAN[name]()
    other, others = CLEAN[name]()
    jitted = jax.jit(other)
    for _ in range(2):
        given = jax.tree.map(lambda leaf: leaf, args)  # the function may write to the containers
        for one, two in zip(jax.tree.leaves(fn(*given)), jax.tree.leaves(jitted(*others)), strict=True):
            if not jax.numpy.issubdtype(one.dtype, jax.dtypes.prng_key):
                np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
