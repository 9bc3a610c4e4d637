"""The four beats of a training step over one explicit state."""

from fourbeat.beats.assembling import Beats, four_beats
from fourbeat.beats.evaluation import DroppedWriteWarning
from fourbeat.beats.gradient import GradientOut
from fourbeat.beats.handing_over import SharedCountWarning, hand_over
from fourbeat.beats.state import TrainState
from fourbeat.beats.statistics import LostStateWarning, PaddingInStatisticsWarning
from fourbeat.trees.donation import UsedUpError

__all__ = [
    "Beats",
    "DroppedWriteWarning",
    "GradientOut",
    "LostStateWarning",
    "PaddingInStatisticsWarning",
    "SharedCountWarning",
    "TrainState",
    "UsedUpError",
    "four_beats",
    "hand_over",
]
