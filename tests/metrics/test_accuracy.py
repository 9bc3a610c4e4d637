import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    top_k_accuracy_score,
)

from fourbeat.metrics import F1, Accuracy, Collection, ConfusionMatrix, Precision, Recall, TopKAccuracy

C = 7


@jax.jit
def score(metric, columns):
    """What a metric computes of these columns: one program, where each operation alone would be one."""
    return metric.update(**columns).compute()


def examples(seed, num=400):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num, C)).astype(np.float32)
    return logits, rng.integers(0, C, num), rng.uniform(0, 2, num).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_is_scikit_learns(seed):
    logits, labels, weight = examples(seed)
    expected = accuracy_score(labels, logits.argmax(-1), sample_weight=weight)
    seen = score(Accuracy(), {"logits": logits, "labels": labels, "weight": weight})
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    columns = {"scores": logits.reshape(20, 20, C), "y": labels.reshape(20, 20)}
    tokens = score(Accuracy(logits="scores", labels="y"), {**columns, "weight": weight.reshape(20, 20)})
    np.testing.assert_allclose(tokens, expected, rtol=1e-6)


def test_the_first_of_equals_is_predicted_and_the_first_nan():
    values = np.array([-np.inf, -0.0, 0.0, 1.0, np.inf, np.nan], np.float32)
    logits = np.random.default_rng(0).choice(values, size=(500, 4))
    logits[0] = -np.inf
    for dtype in (jnp.float32, jnp.bfloat16):
        assert score(Accuracy(), {"logits": logits.astype(dtype), "labels": logits.argmax(-1)}) == 1.0
    whole = np.random.default_rng(0).integers(0, 3, (50, 4))
    assert score(Accuracy(), {"logits": whole, "labels": whole.argmax(-1)}) == 1.0


@pytest.mark.parametrize("shape", [(400,), (20, 20), (400, 1)])
def test_logits_of_the_labels_shape_are_of_two_classes(shape):
    logits, labels, weight = examples(0)
    logits, labels = logits[:, 0], labels % 2
    expected = accuracy_score(labels, logits > 0, sample_weight=weight)
    for given in (labels, labels.astype(bool), labels.astype(np.uint8)):
        columns = {"logits": logits, "labels": given, "weight": weight}
        seen = score(Accuracy(), {name: column.reshape(shape) for name, column in columns.items()})
        np.testing.assert_allclose(seen, expected, rtol=1e-6)
    assert score(Accuracy(), {"logits": np.zeros(1, np.float32), "labels": np.zeros(1, np.int32)}) == 1.0


@pytest.mark.parametrize("k", [1, 2, 5, C])
def test_top_k_accuracy_is_scikit_learns(k):
    logits, labels, weight = examples(k)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = 1.0  # scikit-learn warns where k is the number of classes
    if k < C:
        expected = top_k_accuracy_score(labels, probability, k=k, labels=range(C), sample_weight=weight)
    seen = score(TopKAccuracy(k=k), {"logits": logits, "labels": labels, "weight": weight})
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_of_equal_logits_the_first_is_taken():
    columns = {"logits": np.zeros((C, C), np.float32), "labels": np.arange(C)}
    for metric in (Accuracy(), TopKAccuracy(k=1)):
        assert score(metric, columns) == np.float32(1 / C)


@pytest.mark.parametrize("weight", [None, [1.0, 5.0, 5.0, 3.0, 2.0]], ids=["plain", "weighted"])
def test_a_label_that_is_no_class_is_left_out_by_every_metric_of_a_collection(weight):
    """What is left after two labels that are no class is what scikit-learn is given."""
    logits, labels = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 2]], np.array([0, -1, 4, 3, 1])
    weight = None if weight is None else np.array(weight, np.float32)
    kept = np.array([0, 3, 4])
    left = None if weight is None else weight[kept]
    true, predicted = labels[kept], logits.argmax(-1)[kept]
    collection = Collection(
        accuracy=Accuracy(),
        top=TopKAccuracy(k=1),
        micro=Recall(num_classes=4, average="micro"),
        f1=F1(num_classes=4),
        matrix=ConfusionMatrix(num_classes=4),
    )
    seen = score(collection, {"logits": logits, "labels": labels, "weight": weight})
    expected = accuracy_score(true, predicted, sample_weight=left)
    for name in ("accuracy", "top", "micro"):
        assert float(seen[name]) == pytest.approx(expected)
    f1 = f1_score(true, predicted, sample_weight=left, labels=range(4), average="macro", zero_division=0)
    assert float(seen["f1"]) == pytest.approx(f1)
    matrix = confusion_matrix(true, predicted, sample_weight=left, labels=range(4))
    np.testing.assert_allclose(seen["matrix"], matrix)


@pytest.mark.parametrize(
    "metric", [Accuracy(), TopKAccuracy(k=1), Precision(num_classes=2), F1(num_classes=2)], ids=repr
)
def test_one_column_of_logits_is_refused_with_advice_that_works(metric):
    """(n, 1) against (n,): the class of the highest of one logit is always 0."""
    logits, labels = jnp.array([[1.0], [-1.0], [2.0]]), jnp.array([1, 0, 0])
    with pytest.raises(ValueError) as caught:
        metric.update(logits=logits, labels=labels)
    assert str(caught.value) == (
        f"{metric!r} cannot read 'logits' of shape (3, 1) for 'labels' of shape (3,): with one class there "
        "is nothing to choose. For two classes with one logit an example, give both the same shape: "
        "logits.squeeze(-1)."
    )
    if not isinstance(metric, TopKAccuracy):
        told = metric.update(logits=logits.squeeze(-1), labels=labels).compute()
        predicted = [1, 0, 1]
        expected = {
            Accuracy: accuracy_score(labels, predicted),
            Precision: precision_score(labels, predicted, average="macro"),
            F1: f1_score(labels, predicted, average="macro"),
        }[type(metric)]
        assert float(told) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"Reshape one, such as labels.squeeze\(-1\)\."):
        metric.update(logits=logits.squeeze(-1), labels=labels[:, None])


@pytest.mark.parametrize("metric", [Accuracy(), TopKAccuracy(k=2)], ids=repr)
@pytest.mark.parametrize("shape", [(8, 1), (3, 5), (), (5,)])
def test_labels_of_another_shape_are_refused(metric, shape):
    with pytest.raises(ValueError) as error:
        metric.update(logits=jnp.ones((8, 5)), labels=jnp.zeros(shape, jnp.int32))
    assert str(error.value) == (
        f"{metric!r} cannot compare 'logits' of shape (8, 5) with 'labels' of shape {shape}: for "
        "logits (..., C) labels are (...), here (8,); with one logit an example, for two classes, both are "
        "(...). Reshape one, such as labels.squeeze(-1)."
    )


def test_one_hot_labels_are_refused():
    with pytest.raises(TypeError) as error:
        Accuracy(labels="y").update(logits=jnp.eye(3), y=jnp.eye(3, dtype=jnp.float32))
    assert str(error.value) == (
        "Accuracy(labels='y') cannot read 'y' of dtype float32: labels are the integers 0 to "
        "C - 1. Cast them, such as y.astype(jnp.int32); one-hot labels become y.argmax(-1)."
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
