"""What an option or an array may not be, said whole."""

import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.metrics import (
    AUROC,
    ECE,
    F1,
    Accuracy,
    FBeta,
    Mean,
    PrecisionAtK,
    RecallAtK,
    RecallAtThresholds,
    Sum,
    Weighted,
    reliability_plot,
)

OPTIONS = {
    lambda: FBeta(beta=0, num_classes=3): (
        "FBeta needs beta, a finite number above 0, and got 0. Write FBeta(beta=2, num_classes=10), or F1 "
        "for 1."
    ),
    lambda: Accuracy(threshold="0.5"): (
        "Accuracy takes threshold, a finite number, and got '0.5'. For probabilities write threshold=0.5; "
        "for logits leave it out."
    ),
    lambda: F1(num_classes=2, threshold=0.5).update(
        logits=jnp.ones((8, 2)), labels=jnp.zeros(8, jnp.int32)
    ): (
        "F1(num_classes=2, threshold=0.5) cannot apply its threshold to 'logits' of shape (8, 2) for "
        "'labels' of shape (8,): of several classes the highest is predicted. Leave threshold out; or, for "
        "two classes, give the probability of class 1 alone, logits[..., 1]."
    ),
    lambda: AUROC(average="micro"): (
        "AUROC cannot average over classes by 'micro': average is 'macro', 'weighted', or None for one "
        "number per class."
    ),
    lambda: AUROC(capacity=0): (
        "AUROC needs capacity, how many examples it can keep, an int of at least 1, and got 0. Write "
        "AUROC(capacity=10_000)."
    ),
    lambda: AUROC(bins=10): (
        "AUROC needs bins, a multiple of 4, and got 10. Write AUROC(bins=8192), or AUROC(capacity=10_000) to "
        "keep the examples themselves."
    ),
    lambda: ECE(bins=0): "ECE needs bins, an int of at least 1, and got 0. Write ECE(bins=15).",
    lambda: PrecisionAtK(
        k=0
    ): "PrecisionAtK needs k, an int of at least 1, and got 0. Write PrecisionAtK(k=5).",
    lambda: RecallAtK(k=4).update(logits=jnp.ones((8, 3)), labels=jnp.zeros(8, jnp.int32)): (
        "RecallAtK(k=4) cannot take 4 classes of 'logits' of shape (8, 3). Use a smaller k."
    ),
    lambda: RecallAtK(k=1).update(logits=jnp.ones((8, 3)), labels=jnp.zeros((8, 1), jnp.int32)): (
        "RecallAtK(k=1) cannot compare 'logits' of shape (8, 3) with 'labels' of shape (8, 1): for logits "
        "(..., C) labels are (...), one class each, or (..., C), 1 where a class is relevant."
    ),
    lambda: RecallAtThresholds(thresholds=0.5): (
        "RecallAtThresholds needs thresholds, a tuple of finite numbers, and got 0.5. Write "
        "RecallAtThresholds(thresholds=(0.1, 0.5, 0.9))."
    ),
    lambda: Weighted(Mean, by="mask"): (
        "Weighted takes a metric and the name of a value, and got <class 'fourbeat.metrics.mean.Mean'> and "
        'by=\'mask\'. Write Weighted(Mean("loss"), by="mask").'
    ),
    lambda: Weighted(Mean("loss"), by="mask").update(
        loss=jnp.ones(3), mask=jnp.ones(3), weight=jnp.ones(2)
    ): (
        "Weighted(Mean('loss'), by='mask') cannot multiply 'mask' of shape (3,) with a weight of shape (2,): "
        "one needs the shape of the other, or of its leading axes."
    ),
    lambda: Sum(3): (
        'Sum takes the name of a value or a function of named values, and got 3. Write Sum("loss"), or '
        "Sum(function)."
    ),
    lambda: reliability_plot(np.ones(3)): (
        "reliability_plot draws an array (3, bins), and got one of shape (3,). Pass what "
        "fourbeat.metrics.Reliability computes."
    ),
}


@pytest.mark.parametrize(("call", "text"), OPTIONS.items(), ids=range(len(OPTIONS)))
def test_what_cannot_be_asked_for_is_said(call, text):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert str(error.value) == text
