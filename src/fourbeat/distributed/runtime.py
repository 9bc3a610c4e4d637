"""What JAX's distributed runtime says of this process, without loading JAX or asking for a device."""

import sys
from typing import Any


def num_processes() -> int:
    """Number of processes that train together; 1 where none have been joined.

    `jax.process_count()` says the same, but it makes JAX look for its devices, after which no process can
    be joined any more.

    >>> num_processes()
    1
    """
    return _state().num_processes if client() is not None else 1


def process_index() -> int:
    """Number of this process among those that train together, from 0.

    >>> process_index()
    0
    """
    return _state().process_id if client() is not None else 0


def speaks() -> bool:
    """Whether this process prints, logs and draws: process 0 does, and one that trains alone.

    >>> speaks()
    True
    """
    return process_index() == 0


def client() -> Any:
    """The client of JAX's coordination service; None where no processes have been joined."""
    state = _state()
    return None if state is None else state.client


def coordinator_address() -> str | None:
    """Where the coordination service listens; None where no processes have been joined."""
    return _state().coordinator_address if client() is not None else None


def _state() -> Any:
    """The state of JAX's runtime; None where JAX is not loaded, and so joins nobody."""
    distributed = sys.modules.get("jax._src.distributed")
    return None if distributed is None else distributed.global_state
