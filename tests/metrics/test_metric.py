"""Laws that hold for every metric."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbeat.metrics import (
    F1,
    Accuracy,
    Collection,
    ConfusionMatrix,
    Mean,
    MeanSquaredError,
    Perplexity,
    Precision,
    TopKAccuracy,
)

NUM_EXAMPLES = 12

update = jax.jit(lambda metric, weight, values: metric.update(weight=weight, **values))


def assert_close(computed, expected):
    assert jax.tree.structure(computed) == jax.tree.structure(expected)
    for got, want in zip(jax.tree.leaves(computed), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def part_of(tree, start, stop):
    return jax.tree.map(lambda x: x[start:stop], tree)


def avals(tree):
    return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]


def buffers(*trees):
    return [leaf.unsafe_buffer_pointer() for tree in trees for leaf in jax.tree.leaves(tree)]


@given(
    cuts=st.lists(st.integers(0, NUM_EXAMPLES), max_size=3),
    merged=st.booleans(),
    seed=st.integers(0, 2),
)
@settings(deadline=None, max_examples=15, derandomize=True)
def test_batches_of_any_sizes_give_what_all_at_once_gives(make, examples_of, cuts, merged, seed):
    values, weight = examples_of((NUM_EXAMPLES,), seed=seed)
    expected = update(make(), weight, values).compute()
    metric, edges = make(), [0, *sorted(cuts), NUM_EXAMPLES]
    for start, stop in itertools.pairwise(edges):
        part = part_of((weight, values), start, stop)
        metric = metric.merge(update(make(), *part)) if merged else update(metric, *part)
    assert_close(metric.compute(), expected)


@given(num_padding=st.integers(1, 3), seed=st.integers(0, 3), poison=st.sampled_from([0, np.nan]))
@settings(deadline=None, max_examples=10, derandomize=True)
def test_examples_of_weight_0_change_nothing(make, examples_of, num_padding, seed, poison):
    values, weight = examples_of((NUM_EXAMPLES,), seed=seed)
    expected = update(make(), weight, values).compute()

    def pad(column):
        fill = poison if column.dtype.kind == "f" else 1
        return np.concatenate([column, np.full_like(column[:num_padding], fill)])

    padded = jax.tree.map(pad, values)
    weight = np.concatenate([weight, np.zeros(num_padding, np.float32)])
    assert_close(update(make(), weight, padded).compute(), expected)


@pytest.mark.parametrize("poison", [np.inf, -np.inf, np.nan])
def test_non_finite_examples_of_weight_0_change_nothing(make, examples_of, poison):
    values, weight = examples_of((NUM_EXAMPLES,))
    expected = update(make(), weight, values).compute()
    for column in values.values():
        if column.dtype.kind == "f":
            column[weight == 0] = poison
    assert (weight == 0).any()
    assert_close(update(make(), weight, values).compute(), expected)


def test_no_weight_is_a_weight_of_one_each(make, examples_of):
    values, weight = examples_of((NUM_EXAMPLES,))
    assert_close(
        update(make(), None, values).compute(),
        update(make(), np.ones_like(weight), values).compute(),
    )


def test_a_weight_of_each_sequence_is_that_of_its_tokens(make, examples_of):
    values, weight = examples_of((3, 4))
    weight[:, 0] = [1.0, 0.0, 0.5]
    expected = update(make(), np.repeat(weight[:, :1], 4, axis=1), values).compute()
    assert_close(update(make(), weight[:, 0], values).compute(), expected)
    flat = jax.tree.map(lambda x: x.reshape(12, *x.shape[2:]), values)
    assert_close(update(make(), np.repeat(weight[:, 0], 4), flat).compute(), expected)


def test_compiles_once_and_keeps_the_type_of_each_leaf(make, examples_of):
    values, weight = examples_of((NUM_EXAMPLES,))
    step = jax.jit(lambda metric, weight, values: metric.update(weight=weight, **values))
    metric = fresh = make()
    for _ in range(3):
        metric = step(metric, weight, values)
    assert step._cache_size() == 1
    assert avals(metric) == avals(fresh) == avals(metric.reset()) == avals(metric.merge(fresh))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(metric))
    stacked = jax.tree.map(lambda x: x.reshape(3, 4, *x.shape[1:]), (weight, values))
    scanned, _ = jax.lax.scan(lambda m, x: (m.update(weight=x[0], **x[1]), None), fresh, stacked)
    assert_close(scanned.compute(), step(fresh, weight, values).compute())


def test_half_precision_is_added_up_in_float32(make, examples_of):
    values, weight = examples_of((NUM_EXAMPLES,))
    for dtype in (jnp.bfloat16, jnp.float16):
        halved = {k: jnp.asarray(v, dtype if v.dtype.kind == "f" else None) for k, v in values.items()}
        wide = {k: np.asarray(v, np.float32 if v.dtype == dtype else None) for k, v in halved.items()}
        assert_close(update(make(), weight, halved).compute(), update(make(), weight, wide).compute())


def test_reset_has_seen_nothing_and_aliases_nothing(make, examples_of):
    values, weight = examples_of((NUM_EXAMPLES,))
    metric = update(make(), weight, values)
    trees = metric, metric.reset(), metric.reset(), make(), jax.jit(lambda m: m.reset())(metric)
    assert len(set(buffers(*trees))) == len(buffers(*trees))
    assert_close(metric.reset().compute(), make().compute())
    poisoned = jax.tree.map(lambda leaf: leaf * np.nan, metric)
    assert_close(jax.tree.leaves(poisoned.reset()), jax.tree.leaves(make()))
    donated = jax.jit(lambda m: m.update(weight=weight, **values), donate_argnums=0)
    assert_close(donated(metric.reset()).compute(), metric.compute())
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(metric))


def test_a_metric_takes_few_leaves(make):
    fresh = make()
    num_metrics = 3 if isinstance(fresh, Collection) else 1
    assert len(jax.tree.leaves(fresh)) == num_metrics


def test_a_metric_is_immutable_and_extra_values_are_ignored(make, examples_of):
    values, weight = examples_of((NUM_EXAMPLES,))
    metric = make()
    metric.update(weight=weight, image=object(), self="a column", **values)
    assert_close(metric.compute(), make().compute())
    with pytest.raises(AttributeError):
        metric.sums = None


def test_the_structure_survives_a_map_to_none(make):
    nothing = jax.tree.map(lambda _: None, make())
    assert jax.tree.leaves(nothing) == []


def test_one_of_another_kind_cannot_be_merged(make):
    other = Mean("another")
    with pytest.raises(ValueError, match="cannot merge"):
        make().merge(other)


NAN = float("nan")


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Mean("loss"), NAN),
        (Perplexity("loss"), NAN),
        (MeanSquaredError(), NAN),
        (Accuracy(), NAN),
        (TopKAccuracy(k=2), NAN),
        (Precision(num_classes=3), 0.0),
        (F1(num_classes=3, average=None), [0.0] * 3),
        (F1(num_classes=3, average="micro"), 0.0),
        (ConfusionMatrix(num_classes=2), [[0.0, 0.0], [0.0, 0.0]]),
    ],
    ids=repr,
)
def test_nothing_seen(metric, expected):
    np.testing.assert_array_equal(metric.compute(), expected)
    np.testing.assert_array_equal(jax.jit(lambda m: m.compute())(metric), expected)


@pytest.mark.parametrize(
    "text",
    [
        "Mean('loss')",
        "Perplexity('loss')",
        "MeanSquaredError()",
        "MeanSquaredError(targets='y')",
        "Accuracy()",
        "Accuracy(logits='scores')",
        "TopKAccuracy(k=5)",
        "Precision(num_classes=10)",
        "Precision(num_classes=10, average=None)",
        "F1(num_classes=10, average='micro', labels='y')",
        "ConfusionMatrix(num_classes=3)",
        "Collection(loss=Mean('loss'), accuracy=Accuracy())",
    ],
)
def test_a_metric_is_written_as_it_is_made(text):
    assert repr(eval(text)) == text


def test_what_was_given_is_named_when_metrics_do_not_match():
    with pytest.raises(ValueError) as error:
        Precision(num_classes=3).merge(Precision(num_classes=4))
    assert str(error.value) == (
        "cannot merge Precision(num_classes=3) with Precision(num_classes=4): only metrics of one "
        "class with the same options can be merged. Make both by the same call, "
        "Precision(num_classes=3)."
    )
