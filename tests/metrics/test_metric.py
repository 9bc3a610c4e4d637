"""Laws that hold for every metric: one program updates all of them, so that a law costs one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.metrics import (
    AUROC,
    ECE,
    F1,
    R2,
    Accuracy,
    AveragePrecision,
    Collection,
    ConfusionMatrix,
    FBeta,
    Last,
    Max,
    Mean,
    MeanSquaredError,
    Pearson,
    Perplexity,
    Precision,
    PrecisionAtK,
    RecallAtThresholds,
    Reliability,
    Spearman,
    Std,
    Sum,
    TopKAccuracy,
    Weighted,
)
from tests.oracles.metrics_by_others import ROWS, every_metric, examples, expected, largest_difference

NUM_EXAMPLES = 48

update = jax.jit(lambda metric, columns: metric.update(**columns))
merge = jax.jit(lambda metric, other: metric.merge(other))
compute = jax.jit(lambda metric: metric.compute())


def seen(*parts):
    metric = every_metric()
    for part in parts:
        metric = update(metric, part)
    return metric


def assert_same(metric, wanted, times=1.0, but=()):
    """That every score is as wanted, within the rounding of its row."""
    found = compute(metric)
    for name, row in ROWS.items():
        if name not in but:
            difference = largest_difference(found[name], wanted[name])
            assert difference <= times * row.rtol, (name, difference, found[name], wanted[name])


def part_of(tree, start, stop):
    return jax.tree.map(lambda x: x[start:stop], tree)


def avals(tree):
    return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]


def buffers(*trees):
    return [leaf.unsafe_buffer_pointer() for tree in trees for leaf in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def columns():
    return examples(NUM_EXAMPLES)


@pytest.fixture(scope="module")
def parts(columns):
    return [part_of(columns, start, start + 16) for start in (0, 16, 32)]


@pytest.fixture(scope="module")
def whole(columns):
    """The metrics after all examples at once, and what they compute to."""
    metric = seen(columns)
    return metric, compute(metric)


def test_every_metric_is_its_oracle(columns, whole):
    assert_same(whole[0], expected(columns))


def test_parts_give_what_all_at_once_gives_merged_in_any_order(columns, parts, whole):
    assert_same(seen(*parts), whole[1])
    alone = [seen(part) for part in parts]
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        one, other, third = (alone[place] for place in order)
        but = () if order == (0, 1, 2) else ("last",)
        assert_same(merge(merge(one, other), third), whole[1], but=but)
        assert_same(merge(one, merge(other, third)), whole[1], but=but)
    assert_same(merge(whole[0], every_metric()), whole[1], 0)
    assert_same(merge(every_metric(), whole[0]), whole[1], 0)


@pytest.mark.parametrize("poison", [0, np.inf, -np.inf, np.nan])
def test_examples_of_weight_0_change_nothing(poison, columns, whole):
    poisoned = {name: column.copy() for name, column in columns.items()}
    is_padding = poisoned["weight"] == 0
    assert is_padding.sum() > 5
    for name, column in poisoned.items():
        if name != "weight" and name != "known":
            column[is_padding] = poison if column.dtype.kind == "f" else 1
    assert_same(seen(poisoned), whole[1], 0)


def test_nan_of_a_weight_above_0_is_told(columns):
    read = ("loss", "targets", "score", "probability", "logits")
    poisoned = {**columns, **{name: np.full_like(columns[name], np.nan) for name in read}}
    found = compute(seen(columns, poisoned))
    counts = {
        name for name, row in ROWS.items() if "of classes" not in name and not np.isnan(found[name]).any()
    }
    # These compare, or take the highest, and NaN is neither.
    assert counts == {
        "accuracy", "accuracy of probabilities", "top-k accuracy", "precision", "recall", "f1", "f-beta",
        "confusion matrix", "precision at k", "recall at k", "precision at thresholds",
        "recall at thresholds",
    }  # fmt: skip


def test_no_weight_is_a_weight_of_one_each(columns):
    bare = {name: column for name, column in columns.items() if name != "weight"}
    ones = np.ones_like(columns["weight"])
    assert_same(seen(bare), compute(seen({**columns, "weight": ones})), 0)
    assert_same(seen(bare), expected({**columns, "weight": ones}))


def test_a_weight_of_each_sequence_is_that_of_its_tokens_in_half_precision_too(columns):
    weight = np.float32([1.0, 0.0, 0.5, 2, 1, 0])
    flat = {**columns, "weight": np.repeat(weight, 8)}
    halved = {k: jnp.asarray(v, jnp.bfloat16 if v.dtype == np.float32 else None) for k, v in flat.items()}
    wide = {k: np.asarray(v, flat[k].dtype) for k, v in halved.items()}
    tokens = {name: column.reshape(6, 8, *column.shape[1:]) for name, column in halved.items()}
    assert_same(seen({**tokens, "weight": weight}), compute(seen(wide)))


def test_counts_past_2_24_examples(columns, parts):
    """A float32 count of a heavy example does not see a light one: a unit in its last place is at least 4."""
    heavy = {**columns, "weight": columns["weight"] * np.float32(2**26)}
    light, num = parts[0], 2**14
    kept = {name for name in ROWS if getattr(ROWS[name].metric, "capacity", None) is not None}
    once = {**light, "weight": light["weight"] * np.float32(num)}
    metric = seen(heavy)
    at_once = seen(heavy, once)  # for what keeps examples and has no room for so many
    summed = Collection(**{name: metric[name] for name in metric if name not in kept})

    @jax.jit
    def long(metric, light):
        return jax.lax.fori_loop(0, num, lambda _, m: m.update(**light), metric)

    summed = long(summed, light)
    told = Collection(**{name: (at_once if name in kept else summed)[name] for name in ROWS})
    assert_same(told, expected({name: np.concatenate([heavy[name], once[name]]) for name in columns}))


def test_keeps_the_type_of_each_leaf(whole):
    fresh = every_metric()
    assert avals(whole[0]) == avals(fresh) == avals(whole[0].reset()) == avals(merge(*[whole[0]] * 2))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(whole[0]))


def test_reset_has_seen_nothing_and_aliases_nothing(columns, whole):
    metric = whole[0]
    trees = metric, metric.reset(), metric.reset(), every_metric()
    assert len(set(buffers(*trees))) == len(buffers(*trees))
    poisoned = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), metric)
    for left, right in zip(jax.tree.leaves(poisoned.reset()), jax.tree.leaves(every_metric()), strict=True):
        np.testing.assert_array_equal(left, right)
    jax.jit(lambda m: jax.tree.map(lambda leaf: leaf + 1, m), donate_argnums=0)(metric.reset())
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(metric))


def test_a_metric_takes_few_leaves():
    num_leaves = {name: len(jax.tree.leaves(row.metric)) for name, row in ROWS.items()}
    # a pivot beside the sums, a count beside the examples that are kept
    two = {"std", "r2", "pearson", "spearman", "auroc", "auroc of classes", "average precision"}
    assert num_leaves == {name: 2 if name in two else 1 for name in ROWS}


def test_a_metric_is_immutable_and_extra_values_are_ignored(columns):
    metric = Mean("loss")
    metric.update(image=object(), self="a column", **columns)
    assert np.isnan(metric.compute())
    for row in ROWS.values():
        with pytest.raises(AttributeError):
            row.metric.sums = None


def test_the_structure_survives_a_map_to_none():
    nothing = jax.tree.map(lambda _: None, every_metric())
    assert jax.tree.leaves(nothing) == []


def test_one_of_another_kind_cannot_be_merged():
    for row in ROWS.values():
        with pytest.raises(ValueError, match="cannot merge"):
            row.metric.merge(Mean("another"))


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
        (FBeta(beta=2, num_classes=3, average="weighted"), 0.0),
        (F1(num_classes=3, absent="skip"), NAN),
        (F1(num_classes=2, average=None, absent="skip"), [NAN] * 2),
        (AUROC(), NAN),
        (AUROC(capacity=3, absent="zero"), 0.0),
        (AveragePrecision(num_classes=3, average=None), [NAN] * 3),
        (ECE(), NAN),
        (Reliability(bins=2), [[NAN, NAN], [NAN, NAN], [0.0, 0.0]]),
        (Sum("loss"), 0.0),
        (Max("loss"), NAN),
        (Last("loss"), NAN),
        (Std("loss"), NAN),
        (R2(), NAN),
        (Pearson(), NAN),
        (Spearman(capacity=2), NAN),
        (PrecisionAtK(k=2), NAN),
        (RecallAtThresholds(thresholds=(0.5,)), [0.0]),
        (Weighted(Mean("loss"), by="mask"), NAN),
    ],
    ids=repr,
)
def test_nothing_seen(metric, expected):
    np.testing.assert_array_equal(metric.compute(), expected)


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
        "Weighted(Accuracy(threshold=0.5), by='mask')",
        "AUROC(num_classes=3, average='weighted', capacity=100)",
        "FBeta(num_classes=3, absent='skip', beta=2)",
        "Spearman(capacity=10, targets='y')",
        "RecallAtThresholds(thresholds=(0.5, 0.75))",
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
