"""Every metric beside what scikit-learn, SciPy or NumPy compute of the same weighted examples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats
from sklearn import calibration
from sklearn import metrics as sklearn

from fourbeat import metrics

C = 4
THRESHOLDS = (0.2, 0.5, 0.9)


class Row(NamedTuple):
    """A metric and its oracle.

    `oracle` takes the examples as a dict of float64 arrays, those of weight 0 left out, `weight` among them.
    """

    metric: metrics.Metric
    source: str
    oracle: Callable[[dict[str, Any]], Any]
    rtol: float = 1e-6


def examples(count: int, seed: int = 0, shape: tuple[int, ...] | None = None) -> dict[str, np.ndarray]:
    """Random examples: a fifth of weight 0, scores with ties, and targets far from 0.

    Args:
      count: how many.
      seed: of all of them.
      shape: to give them, of this size in all.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, C, count)
    logits = rng.normal(size=(count, C)) + 1.5 * np.eye(C)[labels]
    is_one = rng.integers(0, 2, count)
    score = np.round(rng.normal(size=count) + is_one, 2)
    targets = 100 + rng.normal(size=count)
    columns = {
        "weight": rng.integers(1, 5, count) * (rng.uniform(size=count) > 0.2) / 2,
        "loss": rng.gamma(1.0, size=count),
        "logits": logits,
        "labels": labels,
        "score": score,
        "probability": special.expit(score),
        "is_one": is_one,
        "relevant": (rng.uniform(size=(count, C)) < 0.4).astype(int),
        "predictions": np.round(targets + rng.normal(size=count), 1),
        "targets": targets,
        "known": rng.integers(0, 2, count).astype(bool),
    }
    narrow = {"f": np.float32, "i": np.int32, "b": np.bool_}
    shaped = lambda x: x if shape is None else x.reshape(*shape, *x.shape[1:])
    return {name: shaped(x.astype(narrow[x.dtype.kind])) for name, x in columns.items()}


def absolute_error(predictions, targets, power=1):
    return abs(predictions - targets) ** power


def _mean(e, values):
    return np.average(values, weights=e["weight"])


def _by_classes(function, **options):
    def oracle(e):
        return function(
            e["labels"],
            e["logits"].argmax(-1),
            sample_weight=e["weight"],
            labels=range(C),
            zero_division=0,
            **options,
        )

    return oracle


def _by_scores(function, **options):
    return lambda e: function(e["is_one"], e["score"], sample_weight=e["weight"], **options)


def _one_against_others(function, **options):
    def oracle(e):
        is_class = np.eye(C)[e["labels"].astype(int)]
        return function(is_class, special.softmax(e["logits"], axis=-1), sample_weight=e["weight"], **options)

    return oracle


def _at_thresholds(function):
    def oracle(e):
        above = [e["probability"] > np.float32(each) for each in THRESHOLDS]
        return [function(e["is_one"], each, sample_weight=e["weight"]) for each in above]

    return oracle


def _repeated(e, *names):
    """Columns with each example as often as it weighs, by the largest weight that divides all."""
    halves = np.round(2 * e["weight"]).astype(int)
    return [np.repeat(e[name], halves // np.gcd.reduce(halves)) for name in names]


def _calibration_error(e, bins=15):
    probabilities = special.softmax(e["logits"], axis=-1)
    sure, is_right = probabilities.max(-1), probabilities.argmax(-1) == e["labels"]
    place = np.minimum((sure * bins).astype(int), bins - 1)
    parts = [place == each for each in range(bins)]
    gaps = [abs(np.sum((sure - is_right)[part] * e["weight"][part])) for part in parts]
    return np.sum(gaps) / np.sum(e["weight"])


def _reliability(e):
    is_one, sure = _repeated(e, "is_one", "probability")
    right, confidence = calibration.calibration_curve(is_one, sure, n_bins=5)
    place = np.minimum((e["probability"] * 5).astype(int), 4)
    return [confidence, right, np.bincount(place, weights=e["weight"], minlength=5)]


def _relevant_at(k, divided_by):
    def oracle(e):
        best = np.argsort(-e["logits"], axis=-1, kind="stable")[:, :k]
        found = np.take_along_axis(e["relevant"], best, axis=-1).sum(-1)
        count = e["relevant"].sum(-1)
        some = count > 0 if divided_by == "relevant" else count >= 0
        measure = found / (np.maximum(count, 1) if divided_by == "relevant" else k)
        return np.average(measure[some], weights=e["weight"][some])

    return oracle


def _of_known(e):
    return np.average(e["loss"], weights=e["weight"] * e["known"])


_BINARY = {"logits": "score", "labels": "is_one"}
_PROBABLE = {"logits": "probability", "labels": "is_one"}
_RELEVANT = {"labels": "relevant"}
_SPREAD = lambda e, name: np.sqrt(np.cov(e[name], aweights=e["weight"], ddof=0))
ROWS = {
    "mean": Row(metrics.Mean("loss"), "numpy.average", lambda e: _mean(e, e["loss"])),
    "mean of a function": Row(
        metrics.Mean(absolute_error),
        "numpy.average",
        lambda e: _mean(e, absolute_error(e["predictions"], e["targets"])),
        1e-5,
    ),
    "sum": Row(metrics.Sum("loss"), "numpy.sum", lambda e: np.sum(e["loss"] * e["weight"])),
    "min": Row(metrics.Min("loss"), "numpy.min", lambda e: np.min(e["loss"])),
    "max": Row(metrics.Max("loss"), "numpy.max", lambda e: np.max(e["loss"])),
    "last": Row(metrics.Last("loss"), "the last one", lambda e: e["loss"][-1]),
    "std": Row(metrics.Std("targets"), "numpy.cov, its root", lambda e: _SPREAD(e, "targets"), 1e-5),
    "perplexity": Row(
        metrics.Perplexity("loss"), "numpy.exp of numpy.average", lambda e: np.exp(_mean(e, e["loss"]))
    ),
    "weighted": Row(
        metrics.Weighted(metrics.Mean("loss"), by="known"), "numpy.average, both weights", _of_known
    ),
    "mse": Row(
        metrics.MeanSquaredError(),
        "sklearn mean_squared_error",
        lambda e: sklearn.mean_squared_error(e["targets"], e["predictions"], sample_weight=e["weight"]),
        1e-5,
    ),
    "mae": Row(
        metrics.MeanAbsoluteError(),
        "sklearn mean_absolute_error",
        lambda e: sklearn.mean_absolute_error(e["targets"], e["predictions"], sample_weight=e["weight"]),
        1e-5,
    ),
    "r2": Row(
        metrics.R2(),
        "sklearn r2_score",
        lambda e: sklearn.r2_score(e["targets"], e["predictions"], sample_weight=e["weight"]),
        1e-4,
    ),
    "pearson": Row(
        metrics.Pearson(),
        "scipy pearsonr, examples repeated",
        lambda e: stats.pearsonr(*_repeated(e, "predictions", "targets")).statistic,
        1e-5,
    ),
    "spearman": Row(
        metrics.Spearman(capacity=1000),
        "scipy spearmanr, examples repeated",
        lambda e: stats.spearmanr(*_repeated(e, "predictions", "targets")).statistic,
    ),
    "accuracy": Row(
        metrics.Accuracy(),
        "sklearn accuracy_score",
        lambda e: sklearn.accuracy_score(e["labels"], e["logits"].argmax(-1), sample_weight=e["weight"]),
    ),
    "accuracy of probabilities": Row(
        metrics.Accuracy(**_PROBABLE, threshold=0.3),
        "sklearn accuracy_score",
        lambda e: sklearn.accuracy_score(
            e["is_one"], e["probability"] > np.float32(0.3), sample_weight=e["weight"]
        ),
    ),
    "top-k accuracy": Row(
        metrics.TopKAccuracy(k=2),
        "sklearn top_k_accuracy_score",
        lambda e: sklearn.top_k_accuracy_score(
            e["labels"], e["logits"], k=2, sample_weight=e["weight"], labels=range(C)
        ),
    ),
    "precision": Row(
        metrics.Precision(num_classes=C),
        "sklearn precision_score",
        _by_classes(sklearn.precision_score, average="macro"),
    ),
    "recall": Row(
        metrics.Recall(num_classes=C, average="micro"),
        "sklearn recall_score",
        _by_classes(sklearn.recall_score, average="micro"),
    ),
    "f1": Row(
        metrics.F1(num_classes=C, average="weighted"),
        "sklearn f1_score",
        _by_classes(sklearn.f1_score, average="weighted"),
    ),
    "f-beta": Row(
        metrics.FBeta(beta=0.5, num_classes=C, average=None),
        "sklearn fbeta_score",
        _by_classes(sklearn.fbeta_score, beta=0.5, average=None),
    ),
    "confusion matrix": Row(
        metrics.ConfusionMatrix(num_classes=C),
        "sklearn confusion_matrix",
        lambda e: sklearn.confusion_matrix(
            e["labels"], e["logits"].argmax(-1), labels=range(C), sample_weight=e["weight"]
        ),
    ),
    "precision at k": Row(metrics.PrecisionAtK(k=2, **_RELEVANT), "numpy, by hand", _relevant_at(2, "k")),
    "recall at k": Row(metrics.RecallAtK(k=2, **_RELEVANT), "numpy, by hand", _relevant_at(2, "relevant")),
    "precision at thresholds": Row(
        metrics.PrecisionAtThresholds(thresholds=THRESHOLDS, **_PROBABLE),
        "sklearn precision_score",
        _at_thresholds(sklearn.precision_score),
    ),
    "recall at thresholds": Row(
        metrics.RecallAtThresholds(thresholds=THRESHOLDS, **_PROBABLE),
        "sklearn recall_score",
        _at_thresholds(sklearn.recall_score),
    ),
    "auroc": Row(
        metrics.AUROC(capacity=1000, **_BINARY), "sklearn roc_auc_score", _by_scores(sklearn.roc_auc_score)
    ),
    "auroc in bins": Row(
        metrics.AUROC(**_BINARY), "sklearn roc_auc_score", _by_scores(sklearn.roc_auc_score), 1e-3
    ),
    "auroc of classes": Row(
        metrics.AUROC(num_classes=C, average="weighted", capacity=1000),
        "sklearn roc_auc_score, each class against the others",
        _one_against_others(sklearn.roc_auc_score, average="weighted"),
    ),
    "average precision": Row(
        metrics.AveragePrecision(capacity=1000, **_BINARY),
        "sklearn average_precision_score",
        _by_scores(sklearn.average_precision_score),
    ),
    "average precision in bins": Row(
        metrics.AveragePrecision(num_classes=C),
        "sklearn average_precision_score, each class against the others",
        _one_against_others(sklearn.average_precision_score, average="macro"),
        1e-2,
    ),
    "ece": Row(metrics.ECE(), "numpy, by hand", _calibration_error, 1e-5),
    "reliability": Row(
        metrics.Reliability(bins=5, from_logits=False, **_PROBABLE),
        "sklearn calibration_curve, examples repeated",
        _reliability,
    ),
}

# a sum, counts at places, one value, moments, bins of a score, the examples themselves
WAYS_TO_KEEP = ("weighted", "reliability", "last", "r2", "auroc in bins", "auroc", "spearman")


def every_metric() -> metrics.Collection:
    """All of them, to be updated in one program."""
    return metrics.Collection(**{name: row.metric for name, row in ROWS.items()})


def expected(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the oracles compute of the same examples."""
    counts = given["weight"] != 0
    exact = lambda x: x[counts] if x.dtype == bool else x[counts].astype(np.float64)
    kept = {name: exact(x) for name, x in given.items()}
    return {name: np.asarray(row.oracle(kept)) for name, row in ROWS.items()}


def largest_difference(found: Any, wanted: Any) -> float:
    """The largest difference of any number, as a fraction of the largest of those wanted."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return float(np.max(np.abs(found - wanted)) / np.max(np.abs(wanted)))
