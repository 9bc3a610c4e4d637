"""Models: taken apart as `(static, params, rest)`, saved, loaded, and given weights from elsewhere."""

from typing import TYPE_CHECKING

from fourbeat._lazy_names import lazy_names

if TYPE_CHECKING:
    from fourbeat.models.errors import ModelFileError
    from fourbeat.models.holding import HeldObjectError, HeldObjectWarning
    from fourbeat.models.lora import add_lora, merge_lora
    from fourbeat.models.lora_files import load_lora, save_lora
    from fourbeat.models.path_filters import labels, paths
    from fourbeat.models.saved import LoadedModel, load, save, save_onnx, save_weights
    from fourbeat.models.splitting import Static, merge, split
    from fourbeat.models.weights import PartialWeightsWarning, WeightsReport, load_weights

_NAMES = {
    "errors": ("ModelFileError",),
    "holding": ("HeldObjectError", "HeldObjectWarning"),
    "lora": ("add_lora", "merge_lora"),
    "lora_files": ("load_lora", "save_lora"),
    "path_filters": ("labels", "paths"),
    "saved": ("LoadedModel", "load", "save", "save_onnx", "save_weights"),
    "splitting": ("Static", "merge", "split"),
    "weights": ("PartialWeightsWarning", "WeightsReport", "load_weights"),
}

__all__ = [
    "HeldObjectError",
    "HeldObjectWarning",
    "LoadedModel",
    "ModelFileError",
    "PartialWeightsWarning",
    "Static",
    "WeightsReport",
    "add_lora",
    "labels",
    "load",
    "load_lora",
    "load_weights",
    "merge",
    "merge_lora",
    "paths",
    "save",
    "save_lora",
    "save_onnx",
    "save_weights",
    "split",
]

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
