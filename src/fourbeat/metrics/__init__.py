"""Metrics: immutable pytrees of running totals."""

from typing import TYPE_CHECKING

from fourbeat._lazy_names import lazy_names

if TYPE_CHECKING:
    from fourbeat.metrics.accuracy import Accuracy
    from fourbeat.metrics.collection import Collection
    from fourbeat.metrics.confusion_matrix import ConfusionMatrix
    from fourbeat.metrics.mean import Mean
    from fourbeat.metrics.metric import Metric
    from fourbeat.metrics.nothing_seen import NothingSeenWarning
    from fourbeat.metrics.per_example import CrossedExamplesWarning
    from fourbeat.metrics.perplexity import Perplexity
    from fourbeat.metrics.precision_recall import F1, Precision, Recall
    from fourbeat.metrics.squared_error import MeanSquaredError
    from fourbeat.metrics.top_k_accuracy import TopKAccuracy

_NAMES = {
    "accuracy": ("Accuracy",),
    "collection": ("Collection",),
    "confusion_matrix": ("ConfusionMatrix",),
    "mean": ("Mean",),
    "metric": ("Metric",),
    "nothing_seen": ("NothingSeenWarning",),
    "per_example": ("CrossedExamplesWarning",),
    "perplexity": ("Perplexity",),
    "precision_recall": ("F1", "Precision", "Recall"),
    "squared_error": ("MeanSquaredError",),
    "top_k_accuracy": ("TopKAccuracy",),
}

__all__ = [
    "F1",
    "Accuracy",
    "Collection",
    "ConfusionMatrix",
    "CrossedExamplesWarning",
    "Mean",
    "MeanSquaredError",
    "Metric",
    "NothingSeenWarning",
    "Perplexity",
    "Precision",
    "Recall",
    "TopKAccuracy",
]

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
