"""Exact evaluation and prediction: every example once, in one compiled program."""

from fourbeat.evaluating.predicting import predictor
from fourbeat.evaluating.scoring import evaluator

__all__ = ["evaluator", "predictor"]
