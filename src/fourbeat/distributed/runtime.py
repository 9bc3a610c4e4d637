"""What JAX's distributed runtime says of this process, without asking for a device."""

from typing import Any

from jax._src import distributed


def num_processes() -> int:
    """Number of processes that train together; 1 where none have been joined.

    `jax.process_count()` says the same, but it makes JAX look for its devices, after which no process can
    be joined any more.

    >>> num_processes()
    1
    """
    state = distributed.global_state
    return state.num_processes if state.client is not None else 1


def process_index() -> int:
    """Number of this process among those that train together, from 0.

    >>> process_index()
    0
    """
    state = distributed.global_state
    return state.process_id if state.client is not None else 0


def speaks() -> bool:
    """Whether this process prints, logs and draws: process 0 does, and one that trains alone.

    >>> speaks()
    True
    """
    return process_index() == 0


def client() -> Any:
    """The client of JAX's coordination service; None where no processes have been joined."""
    return distributed.global_state.client


def coordinator_address() -> str | None:
    """Where the coordination service listens; None where no processes have been joined."""
    return distributed.global_state.coordinator_address if client() is not None else None
