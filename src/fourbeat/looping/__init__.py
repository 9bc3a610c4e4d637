"""The loop: durations, marks, ticks and signals around batches in order."""

from fourbeat.looping.durations import at, every
from fourbeat.looping.loop import Loop, loop
from fourbeat.looping.signals import stop_signal
from fourbeat.looping.tick import Tick

__all__ = ["Loop", "Tick", "at", "every", "loop", "stop_signal"]
