"""The loop: durations, marks, ticks and signals around batches in order."""

from fourbeat.looping.durations import at, every
from fourbeat.looping.indexed_sources import BatchesByStep
from fourbeat.looping.iteration import Loop, loop
from fourbeat.looping.signals import stop_signal
from fourbeat.looping.tick import Tick
from fourbeat.looping.warnings import (
    EndedEarlyWarning,
    InexactResumeWarning,
    LoopWarning,
    StartBeyondEndWarning,
)

__all__ = [
    "BatchesByStep",
    "EndedEarlyWarning",
    "InexactResumeWarning",
    "Loop",
    "LoopWarning",
    "StartBeyondEndWarning",
    "Tick",
    "at",
    "every",
    "loop",
    "stop_signal",
]
