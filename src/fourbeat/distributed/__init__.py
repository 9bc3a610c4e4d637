"""Processes that agree: joining them, who speaks, and what all of them think."""

from typing import TYPE_CHECKING

from fourbeat._lazy_names import lazy_names

if TYPE_CHECKING:
    from fourbeat.distributed.agreement import PeerError, any_of, barrier, broadcast, gather
    from fourbeat.distributed.joining import check_joined, initialize
    from fourbeat.distributed.meeting import JoinError
    from fourbeat.distributed.runtime import num_processes, process_index, speaks
    from fourbeat.distributed.watching import at_step, failed

_NAMES = {
    "agreement": ("PeerError", "any_of", "barrier", "broadcast", "gather"),
    "joining": ("check_joined", "initialize"),
    "meeting": ("JoinError",),
    "runtime": ("num_processes", "process_index", "speaks"),
    "watching": ("at_step", "failed"),
}

__all__ = [
    "JoinError",
    "PeerError",
    "any_of",
    "at_step",
    "barrier",
    "broadcast",
    "check_joined",
    "failed",
    "gather",
    "initialize",
    "num_processes",
    "process_index",
    "speaks",
]

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
