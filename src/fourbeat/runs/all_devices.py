"""The mesh that a recipe trains on: none in one process, all devices where several train together."""

from jax.sharding import Mesh

from fourbeat.distributed import num_processes
from fourbeat.runs.flags import as_flag
from fourbeat.shard import mesh


def training_mesh(num_examples: int, *, flag: str = "batch_size", num_microbatches: int = 1) -> Mesh | None:
    """All devices of all processes along the axis `data`; None where a single process trains.

    A batch has the same number of examples, whatever the number of processes: each device takes its share.

    Args:
      num_examples: of a batch, over all processes.
      flag: the name of the flag that says so.
      num_microbatches: into which each device cuts its share.

    Raises:
      ValueError: the devices cannot share a batch evenly; the text names the flag and two numbers that do.

    >>> training_mesh(33) is None  # one process
    True
    """
    if num_processes() == 1:
        return None
    over = mesh(data=-1)
    share = over.size * num_microbatches
    if num_examples % share:
        below = num_examples // share * share
        fitting = f"{below} or {below + share}" if below else str(share)
        cut = f", each in {num_microbatches} microbatches" if num_microbatches > 1 else ""
        raise ValueError(
            f"{as_flag(flag)} is {num_examples}, and {over.size} devices of {num_processes()} "
            f"processes cannot share it evenly{cut}. Give {fitting}."
        )
    return over
