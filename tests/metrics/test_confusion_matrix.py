import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from fourbeat.metrics import ConfusionMatrix

C = 6


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(120,), (10, 12)])
def test_it_is_scikit_learns(seed, shape):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(*shape, C)).astype(np.float32)
    labels = rng.integers(0, C, shape)
    weight = rng.uniform(0, 2, shape).astype(np.float32)
    seen = ConfusionMatrix(num_classes=C).update(logits=logits, labels=labels, weight=weight)
    flat = labels.ravel(), logits.argmax(-1).ravel()
    expected = confusion_matrix(*flat, sample_weight=weight.ravel(), labels=range(C))
    np.testing.assert_allclose(seen.compute(), expected, rtol=1e-6)


def test_many_classes_cost_what_the_examples_cost():
    num_classes, num = 1000, 64
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, num)  # few, so that some pairs of classes come more than once
    logits = rng.normal(size=(num, num_classes)).astype(np.float32)
    logits[:, :20] += 4
    weight = rng.uniform(0, 2, num).astype(np.float32)
    update = jax.jit(lambda metric, values: metric.update(**values), donate_argnums=0)
    metric = ConfusionMatrix(num_classes=num_classes)
    values = {"logits": logits, "labels": labels, "weight": weight}
    compiled = update.lower(metric, values).compile()
    assert (
        compiled.memory_analysis().temp_size_in_bytes < num_classes**2
    )  # a table of counts takes 8 times that
    assert compiled.cost_analysis()["flops"] < 20 * logits.size
    metric = compiled(metric, values)
    expected = confusion_matrix(labels, logits.argmax(-1), sample_weight=weight, labels=range(num_classes))
    assert np.count_nonzero(expected) < num
    np.testing.assert_allclose(metric.compute(), expected, rtol=1e-6)


def test_rows_are_labels_and_labels_that_are_no_class_are_left_out():
    logits, labels = jnp.array([-1.0, 1.0, 1.0, 1.0, -1.0]), jnp.array([1, 0, 0, -1, 2])
    seen = ConfusionMatrix(num_classes=2).update(logits=logits, labels=labels)
    assert seen.compute().tolist() == [[0, 2], [1, 0]]


def test_options_are_checked_when_it_is_made():
    with pytest.raises(ValueError) as error:
        ConfusionMatrix(num_classes=0)
    assert str(error.value) == (
        "ConfusionMatrix needs num_classes, an int of at least 2, and got 0. "
        "Write ConfusionMatrix(num_classes=10)."
    )
