"""What a run of a recipe for text can do: it is scored on held-out files, and goes on with a text."""

from fourbeat.recipes.text.predictions import predict
from fourbeat.recipes.text.scores import evaluate

__all__ = ["evaluate", "predict"]
