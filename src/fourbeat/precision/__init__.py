"""Precision: which dtype parameters are kept in, computed in, and given out in."""

from fourbeat.precision.explaining import explain
from fourbeat.precision.loss_scale import LossScale
from fourbeat.precision.policy import Policy
from fourbeat.precision.precision_warnings import PrecisionWarning

__all__ = ["LossScale", "Policy", "PrecisionWarning", "explain"]
