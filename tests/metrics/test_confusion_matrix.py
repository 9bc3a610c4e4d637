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
