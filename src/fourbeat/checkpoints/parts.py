"""Parts of arrays that lie over the devices of several processes: which are whose."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from fourbeat.checkpoints.position_sums import position_sum, total
from fourbeat.distributed import num_processes, process_index
from fourbeat.types import Object

Box = tuple[tuple[int, int], ...]  # from where to where along each axis


class Share(NamedTuple):
    """What one process holds of an array.

    Attributes:
      boxes: the parts on its devices, each once.
      counted: those that it counts when all processes add up their position sums.
      times: how often each element is counted by all of them together.
    """

    boxes: tuple[Box, ...]
    counted: frozenset[Box]
    times: int


def is_spread(value: Object) -> bool:
    """Whether parts of an array lie on devices of other processes."""
    if num_processes() == 1:
        return False
    sharding = getattr(value, "sharding", None)
    return sharding is not None and not sharding.is_fully_addressable


def box_of(at: Sequence[slice], shape: Sequence[int]) -> Box:
    """The box at some indices of an array of this shape.

    >>> box_of((slice(2, 4), slice(None)), (8, 3))
    ((2, 4), (0, 3))
    """
    return tuple(slice_.indices(size)[:2] for slice_, size in zip(at, shape, strict=True))


def whole(shape: Sequence[int]) -> Box:
    """The box that is the whole array."""
    return tuple((0, size) for size in shape)


def share_of(sharding: Sharding, shape: tuple[int, ...]) -> Share:
    """The share that this process has of an array with this sharding.

    All copies of a part are counted where each part has equally many; else one of them is.
    """
    holders: dict[Box, set[int]] = {}
    for device, at in sharding.devices_indices_map(shape).items():
        holders.setdefault(box_of(at, shape), set()).add(device.process_index)
    own = tuple(box for box, held_by in holders.items() if process_index() in held_by)
    counts = set(map(len, holders.values()))
    if len(counts) == 1:
        return Share(own, frozenset(own), counts.pop())
    return Share(own, frozenset(box for box in own if min(holders[box]) == process_index()), 1)


def first_copies(array: jax.Array) -> dict[Box, np.ndarray]:
    """The parts of an array that this process writes: of equal ones the first, wherever it lies."""
    return {
        box_of(shard.index, array.shape): np.asarray(shard.data)
        for shard in array.addressable_shards
        if shard.replica_id == 0
    }


def sum_of(parts: dict[Box, np.ndarray], shape: tuple[int, ...]) -> int:
    """The position sums of some parts of an array, added up."""
    return total(position_sum(part, [start for start, _ in box], shape) for box, part in parts.items())


def over_data(sharding: Any, ndim: int, data_ndim: int) -> Any:
    """The sharding of the data of typed keys, which has more axes than the keys.

    Raises:
      ValueError: the keys lie over several processes without a mesh.
    """
    if ndim == data_ndim:
        return sharding
    if not isinstance(sharding, NamedSharding):
        raise ValueError(
            f"typed keys with the sharding {sharding} cannot be restored. Give them one of a mesh."
        )
    spec = (*sharding.spec, *(None for _ in range(data_ndim - len(sharding.spec))))
    return NamedSharding(sharding.mesh, PartitionSpec(*spec))


def size_of(box: Box) -> int:
    """How many elements a box has."""
    return math.prod(stop - start for start, stop in box)
