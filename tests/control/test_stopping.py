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
@given(
    SCORES,
    st.integers(1, 4),
    st.sampled_from(["min", "max"]),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.booleans(),
    st.sampled_from([None, -1.0, 1.5]),
    st.booleans(),
)
def test_it_is_a_count_by_hand(scores, patience, mode, min_delta, relative, baseline, is_limited):
    """The count of Keras: a wait that an improvement of the best ends, where it beats the baseline too."""
    sign = 1 if mode == "min" else -1
    limit = sign * np.float32(2.5) if is_limited else None

    def beats(score, other):
        if np.isnan(score) or other is None:
            return not np.isnan(score)
        is_fraction = relative and np.isfinite(other)
        delta = np.float32(min_delta) * (abs(np.float32(other)) if is_fraction else np.float32(1))
        return bool(sign * score < np.float32(sign * np.float32(other)) - delta)

    best, num_bad, improved = None, 0, False
    with np.errstate(over="ignore", invalid="ignore"):
        for score in np.float32(scores):
            improved = beats(score, best)
            best = score if improved else best
            num_bad = 0 if improved and beats(score, baseline) else num_bad + 1
    diverged = is_limited and len(scores) > 0 and not sign * np.float32(scores[-1]) <= 2.5
    made = EarlyStopping(
        patience, mode, min_delta, relative=relative, baseline=baseline, divergence=limit and float(limit)
    )
    stopping = feed(made, scores)
    np.testing.assert_array_equal(stopping.best, np.float32(np.nan if best is None else best))
    assert (int(stopping.num_bad), bool(stopping.improved)) == (num_bad, improved)
    assert stopping.should_stop == (num_bad >= patience or diverged)
    assert bool(stopping.reason) == stopping.should_stop


NAN = float("nan")
REASONS = {
    "": (EarlyStopping(2), [1.0, 2.0]),
    "the last 2 scores were no better than the best, 1": (EarlyStopping(2), [1.0, 2.0, NAN]),
    "the last score was no better than the best, 1 by more than 0.5": (
        EarlyStopping(1, min_delta=0.5),
        [1.0, 0.75],
    ),
    "the last 3 scores were no better than the best, -0.125 by more than 0.01 of its magnitude": (
        EarlyStopping(3, "max", 0.01, relative=True),
        [-0.125, -0.12499, -0.12498, -0.12497],
    ),
    "the last 2 scores were NaN, and there was no other": (EarlyStopping(2), [NAN, NAN]),
    "none of 3 scores beat baseline=0.9; the best was 0.75": (
        EarlyStopping(3, "max", baseline=0.9),
        [0.25, 0.5, 0.75],
    ),
    "the only score did not beat baseline=0.5; the best was 0.75": (
        EarlyStopping(1, baseline=0.5),
        [0.75],
    ),
    "the last score, 12.5, is above divergence=10.0": (EarlyStopping(5, divergence=10.0), [1.0, 12.5]),
    "the last score, -inf, is below divergence=-1.0": (
        EarlyStopping(5, "max", divergence=-1.0),
        [1.0, -np.inf],
    ),
    "the last score is NaN, and divergence=10.0 is a limit": (EarlyStopping(5, divergence=10.0), [NAN]),
}


@pytest.mark.parametrize("reason", REASONS)
def test_the_reason_is_said_in_words(reason):
    made, scores = REASONS[reason]
    stopping = feed(made, scores)
    assert (stopping.reason, stopping.should_stop) == (reason, bool(reason))
    assert made.reason == ""


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
    assert [leaf.dtype for leaf in leaves] == [np.float32, np.int32, np.bool_, np.float32]
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
    assert repr(EarlyStopping(3, "max", 0.01, relative=True, baseline=0.5, divergence=0.1)) == (
        "EarlyStopping(patience=3, mode='max', min_delta=0.01, relative=True, baseline=0.5, divergence=0.1, "
        "best=nan, num_bad=0)"
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
    "a fraction": (
        lambda: EarlyStopping(patience=1, min_delta=float("inf"), relative=True),
        ValueError,
        "EarlyStopping: min_delta=inf must be a finite number of at least 0, as a fraction of the best "
        "score.",
    ),
    "relative": (
        lambda: EarlyStopping(patience=1, relative=0.01),
        ValueError,
        "EarlyStopping: relative=0.01 must be True or False. For a gain of one percent write "
        "min_delta=0.01, relative=True.",
    ),
    "baseline": (
        lambda: EarlyStopping(patience=1, baseline=float("nan")),
        ValueError,
        "EarlyStopping: baseline=nan must be a finite number, in the unit of the score.",
    ),
    "divergence": (
        lambda: EarlyStopping(patience=1, divergence="10"),
        ValueError,
        "EarlyStopping: divergence='10' must be a finite number, in the unit of the score.",
    ),
    "a baseline that is a divergence": (
        lambda: EarlyStopping(patience=1, mode="max", baseline=0.5, divergence=0.75),
        ValueError,
        "EarlyStopping: baseline=0.5 must be above divergence=0.75: with mode='max' a score as good as the "
        "baseline would stop at once.",
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
