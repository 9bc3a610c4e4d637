"""What a run of a recipe for digits can do: it is scored on the test set, and reads digits in pictures."""

from fourbeat.recipes.digits.predictions import predict
from fourbeat.recipes.digits.scores import evaluate

__all__ = ["evaluate", "predict"]
