"""The four beats of a training step over one explicit state."""

from fourbeat.beats.batch_statistics import PaddingInStatisticsWarning
from fourbeat.beats.dropped_writes import DroppedWriteWarning
from fourbeat.beats.four_beats import Beats, four_beats
from fourbeat.beats.gradient import GradientOut
from fourbeat.beats.lost_states import LostStateWarning
from fourbeat.beats.state import TrainState
from fourbeat.beats.used_up import UsedUpError

__all__ = [
    "Beats",
    "DroppedWriteWarning",
    "GradientOut",
    "LostStateWarning",
    "PaddingInStatisticsWarning",
    "TrainState",
    "UsedUpError",
    "four_beats",
]
