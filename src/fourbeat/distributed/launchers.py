"""What a launcher says of this process: the one reader of its environment variables."""

import os
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

_PORT = 8476  # of a JobSet that names none


class Place(NamedTuple):
    """What a launcher says of this process. None is what it has not said.

    Attributes:
      launcher: who said it, as a reader knows it.
      coordinator_address: `host:port` of process 0.
      num_processes: that are to train together.
      process_id: number of this one, from 0.
      local_device_ids: the devices of its host that are its own; None for all that it sees.
    """

    launcher: str | None = None
    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_device_ids: list[int] | None = None


def place(environment: Mapping[str, str] | None = None) -> Place:
    """What the launcher of this process says; nothing where there is none.

    Args:
      environment: variables; those of this process by default, which may be a worker of Ray Train too.

    Raises:
      ValueError: a variable is not a whole number.

    >>> step = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[3-4]"}
    >>> place({**step, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"})[:4]
    ('Slurm', 'n3:61447', 2, 1)
    """
    given = os.environ if environment is None else environment
    found = _variables(given) or _slurm(given) or (_ray() if environment is None else None)
    return Place() if found is None else found


def ray_coordinator() -> str:
    """An address for process 0, which all workers of Ray Train call for together."""
    import ray.train.collective  # pyright: ignore[reportMissingImports]
    import ray.util  # pyright: ignore[reportMissingImports]

    own = f"{ray.util.get_node_ip_address()}:{free_port()}"
    return ray.train.collective.broadcast_from_rank_zero(own)


def free_port() -> int:
    """A port of this host that nothing listens at."""
    import socket

    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def _variables(given: Mapping[str, str]) -> Place | None:
    """The variables of Kubeflow Trainer, which a manifest can set too, and those of a JobSet."""
    if "JOBSET_NAME" in given:
        launcher, jobset = "JobSet", given["JOBSET_NAME"]
        job, port = given.get("REPLICATED_JOB_NAME"), given.get("JAX_COORDINATOR_PORT", _PORT)
        address = None if job is None else f"{jobset}-{job}-0-0.{jobset}:{port}"
        index = _number(given, "JOB_COMPLETION_INDEX")
    elif "JAX_NUM_PROCESSES" in given:
        launcher, address, index = "the environment (JAX_NUM_PROCESSES)", None, None
    else:
        return None
    own = _number(given, "JAX_PROCESS_ID")
    return Place(
        launcher,
        given.get("JAX_COORDINATOR_ADDRESS", address),
        _number(given, "JAX_NUM_PROCESSES"),
        index if own is None else own,
    )


def _slurm(given: Mapping[str, str]) -> Place | None:
    """One task of a step of Slurm. The port is that which JAX itself chooses: one for each job."""
    if "SLURM_STEP_NODELIST" not in given:  # the script of sbatch is no step: it starts them by srun
        return None
    job, tasks = _number(given, "SLURM_JOB_ID"), _number(given, "SLURM_STEP_NUM_TASKS")
    port = given.get("JAX_COORDINATOR_PORT", 65535 - 2**12 + 1 + (job or 0) % 2**12)
    return Place(
        "Slurm",
        f"{_first_host(given['SLURM_STEP_NODELIST'])}:{port}",
        _number(given, "SLURM_NTASKS") if tasks is None else tasks,
        _number(given, "SLURM_PROCID"),
        _slurm_devices(given),
    )


def _slurm_devices(given: Mapping[str, str]) -> list[int] | None:
    """Several tasks on a host that see the same GPUs take one each, by their number on the host."""
    tasks = re.match(r"\d+", given.get("SLURM_STEP_TASKS_PER_NODE", "1"))
    seen = given.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if tasks is None or int(tasks[0]) == 1 or len(seen) < int(tasks[0]):
        return None
    local = _number(given, "SLURM_LOCALID")
    return None if local is None else [local]


def _first_host(hosts: str) -> str:
    """`node03` of `node[03-05,08],other`."""
    found = re.match(r"([^\[,]*)(?:\[(\w+))?", hosts)
    return "" if found is None else found[1] + (found[2] or "")


def _ray() -> Place | None:
    """A worker of Ray Train, which has no variables: it is asked, where this process has loaded it."""
    utils = sys.modules.get("ray.train.v2._internal.execution.train_fn_utils")
    try:
        context: Any = None if utils is None else utils.get_train_fn_utils().get_context()
    except RuntimeError:  # no worker: the program that starts them
        return None
    if context is None:
        return None
    return Place("Ray Train", None, context.get_world_size(), context.get_world_rank())


def _number(given: Mapping[str, str], name: str) -> int | None:
    if name not in given:
        return None
    if not given[name].strip().isdecimal():
        raise ValueError(f"{name} is {given[name]!r}, not a whole number")
    return int(given[name])
