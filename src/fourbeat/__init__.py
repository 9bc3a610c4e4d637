"""You write the training loop; fourbeat makes every hard part of it correct, explicit and fast."""

from fourbeat import data, guard, metrics, precision, purity
from fourbeat.beats import Beats, TrainState, four_beats
from fourbeat.checkpoints import CheckpointError, Checkpoints
from fourbeat.compiling import Block, compile
from fourbeat.control import EarlyStopping, ReduceOnPlateau
from fourbeat.evaluate import evaluator
from fourbeat.explicit import merge, split
from fourbeat.looping import Tick, at, every, loop, stop_signal
from fourbeat.runs import progress

__all__ = [
    "Beats",
    "Block",
    "CheckpointError",
    "Checkpoints",
    "EarlyStopping",
    "ReduceOnPlateau",
    "Tick",
    "TrainState",
    "at",
    "compile",
    "data",
    "evaluator",
    "every",
    "four_beats",
    "guard",
    "loop",
    "merge",
    "metrics",
    "precision",
    "progress",
    "purity",
    "split",
    "stop_signal",
]
