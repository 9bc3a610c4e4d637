"""Control: what a score says about going on."""

from fourbeat.control.member_stopping import MemberStopping
from fourbeat.control.plateau import ReduceOnPlateau
from fourbeat.control.pruning import Pruning
from fourbeat.control.stopping import EarlyStopping

__all__ = ["EarlyStopping", "MemberStopping", "Pruning", "ReduceOnPlateau"]
