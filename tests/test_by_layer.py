"""Numbers by layer beside NumPy's own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from tests.kinds import KINDS, assert_bit_equal


def test_norms_ratios_and_histograms_of_each_layer_are_numpys():
    kind = KINDS["transformer"]
    beats = fb.four_beats(kind.items, optax.sgd(0.1))
    state = beats.init(kind.make(0))
    grads, out = jax.jit(beats.gradient)(state, kind.batch(0, 4))
    after, _ = jax.jit(beats.update)(state, grads, out)
    before = jax.tree.map(jnp.copy, state)
    seen = jax.jit(fb.sanity.layers, static_argnames="bins")(state, grads, after, bins=5)
    assert_bit_equal(state, before)
    assert sorted(seen.of) == [
        "attention/key", "attention/out", "attention/query", "attention/value", "embed", "head", "norm",
    ]  # fmt: skip
    flat = lambda tree: np.concatenate([np.ravel(tree["head"][name]) for name in ("bias", "kernel")])
    params, of_grads, moved = flat(state.params), flat(grads), flat(after.params) - flat(state.params)
    head = seen["head"]
    norms = [np.linalg.norm(each) for each in (params, of_grads, moved)]
    np.testing.assert_allclose(head[:4], [*norms, norms[2] / norms[0]], rtol=1e-4)
    for found, values in ((head.params, params), (head.grads, of_grads)):
        counts, edges = np.histogram(values, 5)
        assert found.counts.tolist() == counts.tolist()
        np.testing.assert_allclose(found.edges, edges, rtol=1e-5, atol=1e-6)
    scalars = seen.scalars()
    assert len(scalars) == 4 * 7
    assert scalars["grad_norm/head"] == pytest.approx(norms[1], rel=1e-4)


def test_bad_numbers_are_no_part_of_a_histogram_and_updates_may_be_left_out():
    state = fb.four_beats(lambda m, b: m["w"], optax.sgd(1.0)).init(
        {"w": jnp.arange(4.0), "none": jnp.zeros(2)}
    )
    grads = {"w": jnp.array([1.0, jnp.nan, 3.0, jnp.inf]), "none": jnp.full(2, jnp.nan)}
    seen = fb.sanity.layers(state, grads, bins=2)
    assert seen["w"].grads.counts.tolist() == [1, 1]
    assert seen["none"].grads.counts.tolist() == [0, 0]
    assert seen["w"].update_norm is None
    assert str(seen) == (
        "layer  parameters  gradients  update  ratio\n"
        "none            0        nan       -      -\n"
        "w            3.74        nan       -      -"
    )
    with pytest.raises(ValueError) as caught:
        fb.sanity.layers(state, {"w": jnp.ones(3), "none": jnp.zeros(2)})
    assert str(caught.value) == (
        "grads['w'] is (3,) and state.params['w'] is (4,). Give the gradients of this state, and the state "
        "that its update gave."
    )
