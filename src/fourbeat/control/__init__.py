"""Control: what a score says about going on."""

from fourbeat.control.plateau import ReduceOnPlateau
from fourbeat.control.stopping import EarlyStopping

__all__ = ["EarlyStopping", "ReduceOnPlateau"]
