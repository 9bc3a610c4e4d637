"""What metrics of ranks say beside the exact number: its bounds in bins, and what scores may be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from fourbeat.metrics import AUROC, AveragePrecision

ORACLES = {AUROC: roc_auc_score, AveragePrecision: average_precision_score}
SCORES = {
    "logits": lambda x: 4 * x,
    "probabilities": expit,
    "probabilities that crowd at 0 and 1": lambda x: expit(9 * x),
    "ties": lambda x: np.round(x),
    "large": lambda x: 1e30 * x,
    "infinite, some of them": lambda x: np.where(abs(x) > 1.5, np.sign(x) * np.inf, x),
}
update = jax.jit(lambda metric, columns: metric.update(**columns))


@pytest.mark.parametrize("kind", ORACLES)
def test_the_exact_number_lies_within_the_bounds_of_the_bins(kind):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    x = rng.normal(size=200) + labels
    weight = rng.uniform(0, 2, 200).astype(np.float32)
    few, exact = kind(bins=32, bounds=True), kind(capacity=200)
    for name, scores in SCORES.items():
        columns = {"logits": scores(x).astype(np.float32), "labels": labels, "weight": weight}
        finite = np.nan_to_num(columns["logits"], posinf=9, neginf=-9)
        wanted = ORACLES[kind](labels, finite, sample_weight=weight)
        low, high = update(few, columns).compute()
        assert low - 1e-6 <= wanted <= high + 1e-6, name
        assert float(high - low) < 0.999, name
        np.testing.assert_allclose(update(exact, columns).compute(), wanted, rtol=1e-6, err_msg=name)


def test_bounds_of_what_is_kept_are_the_number_itself():
    columns = {"logits": jnp.array([0.1, 0.4, 0.35, 0.8]), "labels": jnp.array([0, 0, 1, 1])}
    assert AUROC(capacity=4, bounds=True).update(**columns).compute().tolist() == [0.75, 0.75]


def test_a_class_that_cannot_be_ranked_is_skipped_or_counts_0():
    """Of three classes the last has no example."""
    rng = np.random.default_rng(0)
    columns = {"logits": rng.normal(size=(60, 3)).astype(np.float32), "labels": rng.integers(0, 2, 60)}
    by_class = AUROC(num_classes=3, capacity=60, average=None).update(**columns).compute()
    assert np.isnan(by_class).tolist() == [False, False, True]
    for absent, share in (("skip", 2), ("zero", 3)):
        score = AUROC(num_classes=3, capacity=60, absent=absent).update(**columns).compute()
        np.testing.assert_allclose(score, by_class[:2].sum() / share, rtol=1e-6)
