"""Reduce on plateau against a hand-written loop with PyTorch's order of events."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbeat.control import ReduceOnPlateau


def scales_by_hand(scores, factor, patience, mode, min_delta, cooldown, min_scale, relative):
    """Scores are multiples of 1/4 below 2**10, so float64 is exact in the comparisons."""
    scale, best, num_bad, cooling, scales = 1.0, None, 0, 0, []
    for score in scores:
        least = min_delta * abs(best) if relative and best is not None else min_delta
        better = not math.isnan(score) and (
            best is None or (score < best - least if mode == "min" else score > best + least)
        )
        if better:
            best, num_bad = score, 0
        else:
            num_bad += 1
        if cooling:
            cooling -= 1
            num_bad = 0
        if num_bad > patience:
            scale = max(scale * factor, min_scale)
            cooling, num_bad = cooldown, 0
        scales.append(scale)
    return scales


@settings(deadline=None, max_examples=300, derandomize=True)
@given(
    st.lists(st.one_of(st.integers(-12, 12).map(lambda n: n / 4), st.just(math.nan)), max_size=25),
    st.tuples(
        st.sampled_from([0.5, 0.1, 0.9]),
        st.integers(0, 3),
        st.sampled_from(["min", "max"]),
        st.sampled_from([0.0, 0.25, 1.0]),
        st.integers(0, 3),
        st.sampled_from([0.0, 0.3, 1.0]),
        st.booleans(),
    ),
)
def test_scales_are_those_of_the_loop_by_hand(scores, arguments):
    plateau, scales, reduced = ReduceOnPlateau(*arguments[:-1], relative=arguments[-1]), [1.0], []
    for score in scores:
        plateau = plateau.update(score)
        scales.append(float(plateau.scale))
        reduced.append(bool(plateau.reduced))
    np.testing.assert_allclose(scales[1:], scales_by_hand(scores, *arguments), rtol=1e-5)
    assert reduced == [after < before for before, after in itertools.pairwise(scales)]


def scales_by_keras_rule(scores, patience, cooldown):
    """The order of events of Keras's ReduceLROnPlateau, factor 0.5, min_delta 0, on finite scores."""
    scale, best, wait, cooling, scales = 1.0, math.inf, 0, 0, []
    for score in scores:
        if cooling > 0:
            cooling, wait = cooling - 1, 0
        if score < best:
            best, wait = score, 0
        elif cooling <= 0:
            wait += 1
            if wait >= patience:
                scale, cooling, wait = scale * 0.5, cooldown, 0
        scales.append(scale)
    return scales


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.lists(st.integers(0, 4), max_size=25), st.integers(0, 4), st.integers(0, 4))
def test_one_fewer_of_patience_and_cooldown_counts_as_keras_does(scores, patience, cooldown):
    plateau, scales = ReduceOnPlateau(0.5, max(patience - 1, 0), cooldown=max(cooldown - 1, 0)), []
    for score in scores:
        plateau = plateau.update(float(score))
        scales.append(float(plateau.scale))
    assert scales == scales_by_keras_rule(scores, patience, cooldown)


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("min", -1), ("max", 1), ("max", -1)])
def test_scores_of_either_sign_reduce_alike(mode, sign):
    plateau = ReduceOnPlateau(0.5, patience=1, mode=mode)
    for _ in range(5):
        plateau = plateau.update(sign * 7.0)
    assert float(plateau.scale) == 0.25


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_first_nan_is_never_the_best(mode):
    plateau = ReduceOnPlateau(0.5, patience=1, mode=mode).update(math.nan)
    assert np.isnan(plateau.best) and float(plateau.scale) == 1 and plateau.num_bad == 1
    plateau = plateau.update(-7.0)
    assert plateau.best == np.float32(-7) and plateau.num_bad == 0
    assert float(plateau.update(math.nan).update(math.nan).scale) == 0.5


def test_it_is_a_pytree_that_goes_on_alike_once_it_was_on_a_device():
    plateau = ReduceOnPlateau(0.3, patience=0, cooldown=1).update(1.1).update(1.1)
    leaves = jax.tree.leaves(plateau)
    assert [leaf.dtype for leaf in leaves] == [np.float32, np.bool_, np.float32, np.int32, np.int32]
    restored = jax.tree.map(jnp.asarray, plateau)
    for _ in range(3):
        plateau, restored = plateau.update(1.1), restored.update(jnp.float32(1.1))
        jax.tree.map(np.testing.assert_array_equal, plateau, restored)
    assert float(plateau.scale) == float(np.float32(0.3) * np.float32(0.3) * np.float32(1))


def test_repr():
    assert repr(ReduceOnPlateau(0.5, 0).update(2.0).update(2.0)) == (
        "ReduceOnPlateau(factor=0.5, patience=0, mode='min', scale=0.5, best=2.0, num_bad=0)"
    )


ERRORS = {
    "factor": ({"factor": 1.0}, "ReduceOnPlateau: factor=1.0 must be above 0 and below 1."),
    "min_scale": ({"min_scale": 2}, "ReduceOnPlateau: min_scale=2 must be from 0 to 1."),
    "patience": ({"patience": -1}, "ReduceOnPlateau: patience=-1 must be an int of at least 0."),
    "cooldown": ({"cooldown": True}, "ReduceOnPlateau: cooldown=True must be an int of at least 0."),
    "mode": ({"mode": None}, "ReduceOnPlateau: mode=None must be 'min' or 'max'."),
    "min_delta": (
        {"min_delta": math.nan},
        "ReduceOnPlateau: min_delta=nan must be a finite number of at least 0, in the unit of the score.",
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(kind):
    changes, text = ERRORS[kind]
    with pytest.raises(ValueError) as caught:
        ReduceOnPlateau(**{"factor": 0.5, "patience": 1, **changes})
    assert str(caught.value) == text
