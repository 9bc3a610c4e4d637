"""Weights from elsewhere: safetensors of PyTorch and of others, put into a model by name."""

from fourbeat.models.weights.carrying_over import load_weights
from fourbeat.models.weights.report import PartialWeightsWarning, WeightsReport

__all__ = ["PartialWeightsWarning", "WeightsReport", "load_weights"]
