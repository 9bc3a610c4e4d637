"""Processes that agree: joining them, who speaks, and what all of them think."""

from typing import TYPE_CHECKING

from fourbeat._lazy_names import lazy_names

if TYPE_CHECKING:
    from fourbeat.distributed.agreement import PeerError, any_of, barrier, broadcast, gather
    from fourbeat.distributed.joining import JoinError, initialize
    from fourbeat.distributed.runtime import num_processes, process_index, speaks

_NAMES = {
    "agreement": ("PeerError", "any_of", "barrier", "broadcast", "gather"),
    "joining": ("JoinError", "initialize"),
    "runtime": ("num_processes", "process_index", "speaks"),
}

__all__ = [
    "JoinError",
    "PeerError",
    "any_of",
    "barrier",
    "broadcast",
    "gather",
    "initialize",
    "num_processes",
    "process_index",
    "speaks",
]

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
