"""A corpus of one's own, token by token: what is read, learnt and held out, and what a run on it can do."""

from fourbeat.recipes.corpus.predictions import predict
from fourbeat.recipes.corpus.scores import evaluate

__all__ = ["evaluate", "predict"]
