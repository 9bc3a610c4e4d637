"""Joining the processes of a training."""

import jax

from fourbeat.distributed import launchers
from fourbeat.distributed.runtime import client


class JoinError(RuntimeError):
    """A process cannot join the others; the text names the cause."""


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout_s: float = 60,
    heartbeat_s: float = 20,
) -> None:
    """Joins this process to the others that run the same program.

    Call it first, before anything asks JAX for a device. What is not given comes from the launcher.

    Args:
      coordinator_address: `host:port` of process 0, which the others can reach.
      num_processes: that train together.
      process_id: number of this one, from 0.
      timeout_s: how long to wait for the others.
      heartbeat_s: a process that is silent for this long is taken for dead, and ends all.

    Raises:
      JoinError: the others cannot be joined; the text names the cause.
    """
    if client() is not None:
        return
    said = launchers.place()
    address = said.coordinator_address if coordinator_address is None else coordinator_address
    number = said.num_processes if num_processes is None else num_processes
    index = said.process_id if process_id is None else process_id
    if number is None and address is None and index is None:
        return
    if address is None or number is None or index is None:
        raise JoinError(f"{address=}, {number=}, {index=}")
    jax.distributed.initialize(
        address,
        number,
        index,
        cluster_detection_method="deactivate",
        initialization_timeout=int(timeout_s),
        heartbeat_timeout_seconds=int(heartbeat_s),
    )
