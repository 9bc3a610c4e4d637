"""What comes before and after training on a table: its columns, leaks, baselines, scores, predictions."""

from fourbeat.recipes.columns.baseline_models import baselines
from fourbeat.recipes.columns.layout import Layout
from fourbeat.recipes.columns.predictions import predict
from fourbeat.recipes.columns.preparing import Prepared, prepare
from fourbeat.recipes.columns.scores import confusion, evaluate, predicted, scores_of, show_compared
from fourbeat.recipes.columns.showing import show

__all__ = [
    "Layout",
    "Prepared",
    "baselines",
    "confusion",
    "evaluate",
    "predict",
    "predicted",
    "prepare",
    "scores_of",
    "show",
    "show_compared",
]
