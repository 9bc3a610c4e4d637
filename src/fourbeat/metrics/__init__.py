"""Metrics: immutable pytrees of running totals."""

from typing import TYPE_CHECKING

from fourbeat._lazy_names import lazy_names

if TYPE_CHECKING:
    from fourbeat.metrics.absolute_error import MeanAbsoluteError
    from fourbeat.metrics.accuracy import Accuracy
    from fourbeat.metrics.at_thresholds import PrecisionAtThresholds, RecallAtThresholds
    from fourbeat.metrics.auroc import AUROC
    from fourbeat.metrics.average_precision import AveragePrecision
    from fourbeat.metrics.calibration import ECE, Reliability
    from fourbeat.metrics.collection import Collection
    from fourbeat.metrics.confusion_matrix import ConfusionMatrix
    from fourbeat.metrics.extremes import Max, Min
    from fourbeat.metrics.host_scores import CapacityWarning, NothingSeenWarning
    from fourbeat.metrics.last import Last
    from fourbeat.metrics.mean import Mean
    from fourbeat.metrics.metric import Metric
    from fourbeat.metrics.pearson import Pearson
    from fourbeat.metrics.per_example import CrossedExamplesWarning
    from fourbeat.metrics.perplexity import Perplexity
    from fourbeat.metrics.precision_recall import F1, FBeta, Precision, Recall
    from fourbeat.metrics.r2 import R2
    from fourbeat.metrics.reliability_diagram import reliability_plot
    from fourbeat.metrics.spearman import Spearman
    from fourbeat.metrics.squared_error import MeanSquaredError
    from fourbeat.metrics.standard_deviation import Std
    from fourbeat.metrics.top_k_accuracy import TopKAccuracy
    from fourbeat.metrics.top_k_ranking import PrecisionAtK, RecallAtK
    from fourbeat.metrics.value_sum import Sum
    from fourbeat.metrics.weighted import Weighted

_NAMES = {
    "absolute_error": ("MeanAbsoluteError",),
    "accuracy": ("Accuracy",),
    "at_thresholds": ("PrecisionAtThresholds", "RecallAtThresholds"),
    "auroc": ("AUROC",),
    "average_precision": ("AveragePrecision",),
    "calibration": ("ECE", "Reliability"),
    "collection": ("Collection",),
    "confusion_matrix": ("ConfusionMatrix",),
    "extremes": ("Max", "Min"),
    "host_scores": ("CapacityWarning", "NothingSeenWarning"),
    "last": ("Last",),
    "mean": ("Mean",),
    "metric": ("Metric",),
    "pearson": ("Pearson",),
    "per_example": ("CrossedExamplesWarning",),
    "perplexity": ("Perplexity",),
    "precision_recall": ("F1", "FBeta", "Precision", "Recall"),
    "r2": ("R2",),
    "reliability_diagram": ("reliability_plot",),
    "spearman": ("Spearman",),
    "squared_error": ("MeanSquaredError",),
    "standard_deviation": ("Std",),
    "top_k_accuracy": ("TopKAccuracy",),
    "top_k_ranking": ("PrecisionAtK", "RecallAtK"),
    "value_sum": ("Sum",),
    "weighted": ("Weighted",),
}

__all__ = [
    "AUROC",
    "ECE",
    "F1",
    "R2",
    "Accuracy",
    "AveragePrecision",
    "CapacityWarning",
    "Collection",
    "ConfusionMatrix",
    "CrossedExamplesWarning",
    "FBeta",
    "Last",
    "Max",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Min",
    "NothingSeenWarning",
    "Pearson",
    "Perplexity",
    "Precision",
    "PrecisionAtK",
    "PrecisionAtThresholds",
    "Recall",
    "RecallAtK",
    "RecallAtThresholds",
    "Reliability",
    "Spearman",
    "Std",
    "Sum",
    "TopKAccuracy",
    "Weighted",
    "reliability_plot",
]

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
