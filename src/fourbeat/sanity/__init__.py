"""Sanity: what makes training useless without an error, before it starts; and its numbers by layer."""

from fourbeat.sanity.by_layer import Histogram, Layer, Layers, layers
from fourbeat.sanity.checking import check
from fourbeat.sanity.report import Finding, Report, SanityError

__all__ = ["Finding", "Histogram", "Layer", "Layers", "Report", "SanityError", "check", "layers"]
