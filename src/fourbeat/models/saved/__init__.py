"""A trained model in a folder: its weights, its prediction as a program, and a signature of both."""

from fourbeat.models.saved.loading import LoadedModel, load
from fourbeat.models.saved.saving import save

__all__ = ["LoadedModel", "load", "save"]
