from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import f1_score, fbeta_score, precision_score, recall_score

from fourbeat.metrics import F1, FBeta, Precision, Recall

C = 5
PAIRS = [
    (Precision, precision_score),
    (Recall, recall_score),
    (F1, f1_score),
    (partial(FBeta, beta=2), partial(fbeta_score, beta=2)),
]
AVERAGES = ["macro", "micro", "weighted", None]


def examples(seed, num=300):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num, C)).astype(np.float32)
    logits[:, 4] -= 100 * (seed == 1)  # class 4 is never predicted
    labels = rng.integers(0, C - (seed == 2), num)  # class 4 is never seen
    return logits, labels, rng.uniform(0, 2, num).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize(("kind", "oracle"), PAIRS)
def test_it_is_scikit_learns(kind, oracle, average, seed):
    logits, labels, weight = examples(seed)
    options = {"labels": range(C), "average": average, "zero_division": 0}
    expected = oracle(labels, logits.argmax(-1), sample_weight=weight, **options)
    metric = kind(num_classes=C, average=average)
    seen = metric.update(logits=logits, labels=labels, weight=weight)
    np.testing.assert_allclose(seen.compute(), expected, rtol=1e-6)
    tokens = metric.update(
        logits=logits.reshape(10, 30, C), labels=labels.reshape(10, 30), weight=weight[:10]
    )
    expected = oracle(labels, logits.argmax(-1), sample_weight=np.repeat(weight[:10], 30), **options)
    np.testing.assert_allclose(tokens.compute(), expected, rtol=1e-6)


@pytest.mark.parametrize(("kind", "oracle"), PAIRS)
def test_class_1_of_two_classes(kind, oracle):
    logits, labels, weight = examples(0)
    logits, labels = logits[:, 0], labels % 2
    metric = kind(num_classes=2, average=None)
    seen = metric.update(logits=logits, labels=labels, weight=weight)
    expected = oracle(labels, logits > 0, sample_weight=weight)
    np.testing.assert_allclose(seen.compute()[1], expected, rtol=1e-6)


@pytest.mark.parametrize(("kind", "oracle"), PAIRS)
def test_a_class_that_never_occurs_is_left_out_of_the_average_where_it_is_to_be(kind, oracle):
    """As scikit-learn does without `labels=`: what is neither a label nor a prediction is no class there."""
    logits, labels, weight = examples(0)
    logits[:, 3:], labels = logits[:, 3:] - 100, labels % 3
    predicted = logits.argmax(-1)
    assert set(predicted) | set(labels) == {0, 1, 2}
    options = {"sample_weight": weight, "zero_division": 0}
    for average in AVERAGES:
        seen = kind(num_classes=C, average=average, absent="skip")
        found = seen.update(logits=logits, labels=labels, weight=weight).compute()
        by_class = oracle(labels, predicted, average=average, **options)
        expected = [*by_class, np.nan, np.nan] if average is None else by_class
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    labels[:5], weight[:5] = 3, 0  # of weight 0, it does not occur
    seen = kind(num_classes=C, absent="skip").update(logits=logits, labels=labels, weight=weight)
    expected = oracle(labels[5:], predicted[5:], sample_weight=weight[5:], average="macro")
    np.testing.assert_allclose(seen.compute(), expected, rtol=1e-6)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize(("kind", "oracle"), PAIRS)
def test_examples_whose_label_is_no_class_are_left_out(kind, oracle, average):
    logits, labels, _ = examples(0)
    labels[::7], labels[1::7] = -1, C
    kept = (labels >= 0) & (labels < C)
    metric = kind(num_classes=C, average=average).update(logits=logits, labels=labels)
    expected = oracle(labels[kept], logits[kept].argmax(-1), labels=range(C), average=average)
    np.testing.assert_allclose(metric.compute(), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [Precision, Recall, F1])
def test_options_are_checked_when_it_is_made(kind):
    name = kind.__name__
    for num_classes in (1, 2.0, None):
        with pytest.raises(ValueError) as error:
            kind(num_classes=num_classes)
        assert str(error.value) == (
            f"{name} needs num_classes, an int of at least 2, and got {num_classes!r}. "
            f"Write {name}(num_classes=10)."
        )
    with pytest.raises(ValueError) as error:
        kind(num_classes=3, average="samples")
    assert str(error.value) == (
        f"{name} cannot average over classes by 'samples': average is 'macro', 'micro', 'weighted', or None "
        "for one number per class."
    )
    with pytest.raises(ValueError) as error:
        kind(num_classes=3, absent="nan")
    assert str(error.value) == (
        f"{name} cannot count absent classes as 'nan': absent is 'zero' for a score of 0, or 'skip' to leave "
        "them out of the average."
    )


@pytest.mark.parametrize(("shape", "num_seen"), [((8, 3), 3), ((8,), 2)])
def test_logits_of_another_number_of_classes_are_refused(shape, num_seen):
    with pytest.raises(ValueError) as error:
        F1(num_classes=10).update(logits=jnp.ones(shape), labels=jnp.zeros(8, jnp.int32))
    assert str(error.value) == (
        f"F1(num_classes=10) cannot read logits of shape {shape} for labels of shape (8,): they "
        f"are of {num_seen} classes. Write F1(num_classes={num_seen})."
    )
