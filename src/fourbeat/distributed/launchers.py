"""What a launcher says of this process: the one reader of its environment variables."""

import os
from collections.abc import Mapping
from typing import NamedTuple


class Place(NamedTuple):
    """What is known of this process before it joins the others. None is what nobody has said.

    Attributes:
      launcher: who said it, as a reader knows it.
      coordinator_address: `host:port` of process 0.
      num_processes: that are to train together.
      process_id: number of this one, from 0.
    """

    launcher: str | None = None
    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def place(environment: Mapping[str, str] | None = None) -> Place:
    """What the launcher of this process says.

    Args:
      environment: variables; those of this process by default.

    >>> place({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_NODELIST": "n3,n4"})
    Place(launcher='Slurm', coordinator_address='n3:61447', num_processes=2, process_id=1)
    """
    given = os.environ if environment is None else environment
    for read in (_plain_variables, _slurm):
        if (found := read(given)) is not None:
            return found
    return Place()


def _plain_variables(given: Mapping[str, str]) -> Place | None:
    """The variables that Kubeflow Trainer sets, and that a manifest or a script can set."""
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    if not all(name in given for name in names):
        return None
    return Place("JAX_* variables", given[names[0]], int(given[names[1]]), int(given[names[2]]))


def _slurm(given: Mapping[str, str]) -> Place | None:
    """One task of a step of Slurm. The port is that which JAX itself chooses: one for each job."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID")
    if not all(name in given for name in names):
        return None
    port = 65535 - 2**12 + 1 + int(given["SLURM_JOB_ID"]) % 2**12
    return Place(
        "Slurm", f"{_first_host(given[names[1]])}:{port}", int(given[names[2]]), int(given[names[3]])
    )


def _first_host(hosts: str) -> str:
    """`node3` of `node[3-5,8],other`."""
    prefix, bracket, rest = hosts.split(",")[0].partition("[")
    return prefix + rest.partition("-")[0].rstrip("]") if bracket else prefix
