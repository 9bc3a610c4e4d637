import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from fourbeat.metrics import Accuracy, TopKAccuracy

C = 7


def items(seed, num=400):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num, C)).astype(np.float32)
    return logits, rng.integers(0, C, num), rng.uniform(0, 2, num).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_is_scikit_learns(seed):
    logits, labels, weight = items(seed)
    expected = accuracy_score(labels, logits.argmax(-1), sample_weight=weight)
    seen = Accuracy().update(logits=logits, labels=labels, weight=weight)
    np.testing.assert_allclose(seen.compute(), expected, rtol=1e-6)
    tokens = Accuracy(logits="scores", labels="y").update(
        scores=logits.reshape(20, 20, C),
        y=labels.reshape(20, 20),
        weight=weight.reshape(20, 20),
    )
    np.testing.assert_allclose(tokens.compute(), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(400,), (20, 20), (400, 1)])
def test_logits_of_the_labels_shape_are_of_two_classes(shape):
    logits, labels, weight = items(0)
    logits, labels = logits[:, 0], labels % 2
    expected = accuracy_score(labels, logits > 0, sample_weight=weight)
    for given in (labels, labels.astype(bool), labels.astype(np.uint8)):
        seen = Accuracy().update(
            logits=logits.reshape(shape), labels=given.reshape(shape), weight=weight.reshape(shape)
        )
        np.testing.assert_allclose(seen.compute(), expected, rtol=1e-6)
    at_threshold = Accuracy().update(logits=jnp.zeros(1), labels=jnp.zeros(1, jnp.int32))
    assert float(at_threshold.compute()) == 1.0


@pytest.mark.parametrize("k", [1, 2, 5, C])
def test_top_k_accuracy_is_scikit_learns(k):
    logits, labels, weight = items(k)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = 1.0  # scikit-learn warns where k is the number of classes
    if k < C:
        expected = top_k_accuracy_score(labels, probability, k=k, labels=range(C), sample_weight=weight)
    seen = TopKAccuracy(k=k).update(logits=logits, labels=labels, weight=weight)
    np.testing.assert_allclose(seen.compute(), expected, rtol=1e-6)


def test_of_equal_logits_the_first_is_taken():
    logits, labels = jnp.zeros((C, C)), jnp.arange(C)
    for metric in (Accuracy(), TopKAccuracy(k=1)):
        assert float(metric.update(logits=logits, labels=labels).compute()) == np.float32(1 / C)


def test_a_label_that_is_no_class_is_wrong():
    logits, labels = jnp.eye(4), jnp.array([0, -1, 4, 3])
    for metric in (Accuracy(), TopKAccuracy(k=4)):
        assert float(metric.update(logits=logits, labels=labels).compute()) == 0.5


@pytest.mark.parametrize("metric", [Accuracy(), TopKAccuracy(k=2)], ids=repr)
@pytest.mark.parametrize("shape", [(8, 1), (3, 5), (), (5,)])
def test_labels_of_another_shape_are_refused(metric, shape):
    with pytest.raises(ValueError) as error:
        metric.update(logits=jnp.ones((8, 5)), labels=jnp.zeros(shape, jnp.int32))
    assert str(error.value) == (
        f"{metric!r} cannot compare 'logits' of shape (8, 5) with 'labels' of shape {shape}: for "
        "logits (..., C) labels are (...), here (8,); for one logit an item, two classes, both are "
        "(...). Reshape one, such as labels.squeeze(-1)."
    )


def test_one_hot_labels_are_refused():
    with pytest.raises(TypeError) as error:
        Accuracy(labels="y").update(logits=jnp.eye(3), y=jnp.eye(3, dtype=jnp.float32))
    assert str(error.value) == (
        "Accuracy(labels='y') cannot read 'y' of dtype float32: labels are the integers 0 to "
        "C - 1. Cast them, such as y.astype(jnp.int32); of one-hot labels take y.argmax(-1)."
    )


@pytest.mark.parametrize("k", [0, 2.0, "5"])
def test_k_must_be_a_count(k):
    with pytest.raises(ValueError) as error:
        TopKAccuracy(k=k)
    assert str(error.value) == (
        f"TopKAccuracy needs k, an int of at least 1, and got {k!r}. Write TopKAccuracy(k=5)."
    )


@pytest.mark.parametrize(("logits", "labels"), [((8, 3), (8,)), ((8,), (8,))])
def test_k_must_be_at_most_the_number_of_classes(logits, labels):
    with pytest.raises(ValueError) as error:
        TopKAccuracy(k=4).update(logits=jnp.ones(logits), labels=jnp.zeros(labels, jnp.int32))
    assert str(error.value) == (
        f"TopKAccuracy(k=4) cannot take 4 classes of 'logits' of shape {logits} for 'labels' of "
        f"shape {labels}: logits are (..., C) with C at least 4. Use a smaller k, or Accuracy()."
    )
