"""What a run of a recipe for digits can do: it is scored on the test set, and reads digits in pictures."""

from fourbeat.recipes.digits.predictions import predict
from fourbeat.recipes.digits.scores import evaluate, make_test_metrics

__all__ = ["evaluate", "make_test_metrics", "predict"]
