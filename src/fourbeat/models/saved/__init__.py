"""A trained model in a folder: its weights, its prediction as a program, and a signature of both."""

from fourbeat.models.saved.loading import LoadedModel, load
from fourbeat.models.saved.onnx_file import save_onnx
from fourbeat.models.saved.saving import save, save_weights

__all__ = ["LoadedModel", "load", "save", "save_onnx", "save_weights"]
