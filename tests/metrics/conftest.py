"""The table of metrics that every law is tested over, and examples for them to see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.metrics import (
    F1,
    Accuracy,
    Collection,
    ConfusionMatrix,
    Mean,
    MeanSquaredError,
    Perplexity,
    Precision,
    Recall,
    TopKAccuracy,
)

NUM_CLASSES = 4


def absolute_error(predictions, targets, power=1):
    return jnp.abs(jnp.float32(predictions) - jnp.float32(targets)) ** power


KINDS = {
    "mean": lambda: Mean("loss"),
    "mean of a function": lambda: Mean(absolute_error),
    "perplexity": lambda: Perplexity("loss"),
    "mean squared error": lambda: MeanSquaredError(),
    "accuracy": lambda: Accuracy(),
    "top-k accuracy": lambda: TopKAccuracy(k=2),
    "precision": lambda: Precision(num_classes=NUM_CLASSES),
    "recall": lambda: Recall(num_classes=NUM_CLASSES, average="micro"),
    "f1": lambda: F1(num_classes=NUM_CLASSES, average=None),
    "confusion matrix": lambda: ConfusionMatrix(num_classes=NUM_CLASSES),
    "collection": lambda: Collection(
        loss=Mean("loss"),
        classes=Collection(accuracy=Accuracy(), f1=F1(num_classes=NUM_CLASSES)),
    ),
}


@pytest.fixture(scope="session", params=KINDS.values(), ids=KINDS.keys())
def make(request):
    """A function that makes a metric that has seen nothing."""
    return request.param


@pytest.fixture(scope="session")
def examples_of():
    """A function that makes random examples with weights, of any shape, as NumPy arrays."""

    def examples_of(shape, *, seed=0):
        rng = np.random.default_rng(seed)
        weight = rng.uniform(0.1, 2.0, shape) * (rng.uniform(size=shape) > 0.2)
        values = {
            "loss": rng.gamma(1.0, size=shape),
            "logits": rng.normal(size=(*shape, NUM_CLASSES)),
            "labels": rng.integers(0, NUM_CLASSES, shape),
            "predictions": rng.normal(size=shape),
            "targets": rng.normal(size=shape),
        }
        narrow = lambda x: x.astype(np.int32 if x.dtype.kind == "i" else np.float32)
        return jax.tree.map(narrow, values), weight.astype(np.float32)

    return examples_of
