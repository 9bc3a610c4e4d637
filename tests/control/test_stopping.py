"""Early stopping against a count by hand, for scores of every sign, NaN among them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbeat.control import EarlyStopping

SCORES = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.floats(width=32), st.just(float("nan"))), max_size=12
)


def feed(stopping, scores):
    for score in scores:
        stopping = stopping.update(score)
    return stopping


def test_patience_counts_scores_without_improvement():
    stopping = EarlyStopping(patience=3)
    seen = []
    for score in [6, 5, 5, 5, 5, 5]:
        stopping = stopping.update(score)
        seen.append((bool(stopping.improved), int(stopping.num_bad), stopping.should_stop))
    assert seen == [
        (True, 0, False),
        (True, 0, False),
        (False, 1, False),
        (False, 2, False),
        (False, 3, True),
        (False, 4, True),
    ]


@settings(deadline=None, max_examples=200, derandomize=True)
@given(SCORES, st.integers(1, 4), st.sampled_from(["min", "max"]), st.sampled_from([0.0, 0.5, 2.0]))
def test_it_is_a_count_by_hand(scores, patience, mode, min_delta):
    best, num_bad, improved, delta = None, 0, False, np.float32(min_delta)
    for score in np.float32(scores):
        if np.isnan(score):
            improved = False
        elif best is None:
            improved = True
        else:
            improved = bool(score < best - delta if mode == "min" else score > best + delta)
        best, num_bad = (score, 0) if improved else (best, num_bad + 1)
    stopping = feed(EarlyStopping(patience, mode, min_delta), scores)
    np.testing.assert_array_equal(stopping.best, np.float32(np.nan if best is None else best))
    assert (int(stopping.num_bad), bool(stopping.improved)) == (num_bad, improved)
    assert stopping.should_stop == (num_bad >= patience)


def test_a_first_nan_is_never_the_best():
    stopping = EarlyStopping(patience=2).update(float("nan"))
    assert np.isnan(stopping.best) and not stopping.improved and stopping.num_bad == 1
    stopping = stopping.update(1e30)
    assert stopping.best == np.float32(1e30) and stopping.improved and stopping.num_bad == 0


VALUES = {
    "float": 0.1,
    "float64": np.float64(0.1),
    "device": lambda: jnp.float32(0.1),
    "one element": np.array([0.1]),
    "bfloat16": lambda: jnp.bfloat16(0.1),
    "too large for float32": 1e300,
}


@pytest.mark.parametrize("kind", VALUES)
def test_scores_of_every_kind_are_compared_in_float32(kind):
    value = VALUES[kind]() if callable(VALUES[kind]) else VALUES[kind]
    once = EarlyStopping(patience=3, mode="max").update(value)
    assert isinstance(once.best, np.ndarray) and once.best.dtype == np.float32
    again = once.update(value)
    assert once.improved and not again.improved


def test_it_is_a_pytree_that_decides_alike_once_it_was_on_a_device():
    stopping = feed(EarlyStopping(patience=2, min_delta=0.25), [1.1, 1.0])
    leaves, structure = jax.tree.flatten(stopping)
    assert [leaf.dtype for leaf in leaves] == [np.float32, np.int32, np.bool_]
    assert structure == jax.tree.structure(EarlyStopping(patience=2, min_delta=0.25))
    restored = jax.tree.map(jnp.asarray, stopping)
    assert not stopping.should_stop and not restored.should_stop
    assert stopping.update(0.9).should_stop and restored.update(0.9).should_stop
    jax.tree.map(np.testing.assert_array_equal, restored.update(0.5), stopping.update(0.5))


def test_update_leaves_the_old_one_as_it_was():
    before = EarlyStopping(patience=1).update(1.0)
    before.update(2.0)
    assert not before.should_stop and before.improved


def test_repr():
    assert repr(EarlyStopping(patience=3).update(0.5)) == (
        "EarlyStopping(patience=3, mode='min', min_delta=0.0, best=0.5, num_bad=0)"
    )


ERRORS = {
    "patience": (
        lambda: EarlyStopping(patience=0),
        ValueError,
        "EarlyStopping: patience=0 must be an int of at least 1. Use 1 to stop at the first score that is no "
        "better, as Keras does for 0 and 1 alike.",
    ),
    "patience of the wrong type": (
        lambda: EarlyStopping(patience=2.0),
        ValueError,
        "EarlyStopping: patience=2.0 must be an int of at least 1.",
    ),
    "mode": (
        lambda: EarlyStopping(patience=1, mode="less"),
        ValueError,
        "EarlyStopping: mode='less' must be 'min' or 'max'.",
    ),
    "min_delta": (
        lambda: EarlyStopping(patience=1, min_delta=-0.5),
        ValueError,
        "EarlyStopping: min_delta=-0.5 must be a finite number of at least 0, in the unit of the score.",
    ),
    "several scores": (
        lambda: EarlyStopping(patience=1).update(np.zeros(3)),
        TypeError,
        "EarlyStopping.update takes one number, not an ndarray of shape (3,). Pass one score, such as "
        'scores["loss"].',
    ),
    "a dict": (
        lambda: EarlyStopping(patience=1).update({"loss": 1.0}),
        TypeError,
        'EarlyStopping.update takes one number, not a dict. Pass one score, such as scores["loss"].',
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(kind):
    call, error, text = ERRORS[kind]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text
