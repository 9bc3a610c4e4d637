import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from fourbeat.metrics import F1, Precision, Recall

C = 5
PAIRS = [(Precision, precision_score), (Recall, recall_score), (F1, f1_score)]


def examples(seed, num=300):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num, C)).astype(np.float32)
    logits[:, 4] -= 100 * (seed == 1)  # class 4 is never predicted
    labels = rng.integers(0, C - (seed == 2), num)  # class 4 is never seen
    return logits, labels, rng.uniform(0, 2, num).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("average", ["macro", "micro", None])
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


@pytest.mark.parametrize("average", ["macro", "micro", None])
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
        kind(num_classes=3, average="weighted")
    assert str(error.value) == (
        f"{name} cannot average over classes by 'weighted': average is 'macro', 'micro', or None "
        "for one number per class."
    )


@pytest.mark.parametrize(("shape", "num_seen"), [((8, 3), 3), ((8,), 2)])
def test_logits_of_another_number_of_classes_are_refused(shape, num_seen):
    with pytest.raises(ValueError) as error:
        F1(num_classes=10).update(logits=jnp.ones(shape), labels=jnp.zeros(8, jnp.int32))
    assert str(error.value) == (
        f"F1(num_classes=10) cannot read logits of shape {shape} for labels of shape (8,): they "
        f"are of {num_seen} classes. Write F1(num_classes={num_seen})."
    )
