"""The mesh: the devices by the names of their axes, and over which of them the rows of a batch are split."""

import math
from collections.abc import Iterable, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

from fourbeat.distributed import check_joined, num_processes
from fourbeat.types import Device, Object

_ROW_AXES = ("data", "fsdp")
SEQUENCE = "sequence"
REPLICAS = "replicas"


def mesh(
    *,
    replicas: int = 1,
    data: int = 1,
    fsdp: int = 1,
    tensor: int = 1,
    sequence: int = 1,
    devices: Sequence[Device] | None = None,
) -> Mesh:
    """A `jax.sharding.Mesh` of all devices, with the axes that are asked for.

    Each batch is split over the axes `data` and `fsdp`: every device gets its share of the rows. Over `fsdp`
    the parameters are split too (see `fourbeat.shard.fsdp`), over `tensor` the dimensions that
    `fourbeat.shard.by_path` names, and over `sequence` the second axis of the batch's columns.

    Args:
      replicas: devices along the axis `replicas`, over which the members of `fourbeat.replicas` are spread.
        Every one of them gets the same batches.
      data: devices along the axis `data`. One of the sizes may be -1: as many as are left.
      fsdp: devices along the axis `fsdp`.
      tensor: devices along the axis `tensor`. Neighbouring devices are the quickest to talk to each other,
        and this axis, the last, is laid over neighbours.
      sequence: devices along the axis `sequence`.
      devices: default all of them, `jax.devices()`.

    Returns:
      The mesh, whose axes are `jax.sharding.AxisType.Auto`. It has an axis for each size but 1; where all
      are 1, the axis `data`. Any other `jax.sharding.Mesh` will do where fourbeat takes one.

    Raises:
      ValueError: the sizes do not multiply to the number of devices, or a process has none of them.
      fourbeat.distributed.JoinError: a launcher has started several processes, and this one trains alone.

    >>> import fourbeat as fb
    >>> fb.mesh(data=-1).axis_names
    ('data',)
    """
    check_joined()
    devices = jax.devices() if devices is None else list(devices)
    sizes = {REPLICAS: replicas, "data": data, "fsdp": fsdp, SEQUENCE: sequence, "tensor": tensor}
    sizes = _filled(sizes, len(devices))
    asked = {name: size for name, size in sizes.items() if size != 1} or {"data": 1}
    shape = tuple(asked.values())
    if math.prod(shape) != len(devices):
        total = math.prod(shape)
        fewer = (
            f" For fewer devices pass them: devices=jax.devices()[:{total}]." if total < len(devices) else ""
        )
        raise ValueError(
            f"cannot lay {_sizes(asked)} over {_counted(len(devices))}: the sizes multiply to {total}. "
            f"One of them may be -1: as many as are left.{fewer}"
        )
    made = jax.make_mesh(shape, tuple(asked), (AxisType.Auto,) * len(shape), devices=devices)
    _check_covers(made)
    return made


def _filled(sizes: dict[str, int], num_devices: int) -> dict[str, int]:
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or (size < 1 and size != -1):
            raise ValueError(f"{name} is {size!r}; expected a number of devices from 1 on, or -1.")
    open_axes = [name for name, size in sizes.items() if size == -1]
    if len(open_axes) > 1:
        raise ValueError(
            f"{' and '.join(open_axes)} are all -1, as many devices as are left. Give all but one of them."
        )
    rest = math.prod(size for size in sizes.values() if size != -1)
    if open_axes and num_devices % rest:
        raise ValueError(
            f"{open_axes[0]} is -1, as many devices as are left, and {rest} does not divide "
            f"{_counted(num_devices)}."
        )
    return {name: num_devices // rest if size == -1 else size for name, size in sizes.items()}


def checked_mesh(given: Object) -> Mesh:
    """A mesh with `Auto` axes, over the same devices.

    `jax.make_mesh` makes `Explicit` axes, under which many models do not trace.

    Raises:
      TypeError: it is no mesh of devices.
      ValueError: nothing tells over which axes the rows of a batch are split, or a process has no
        device of it.
    """
    if not isinstance(given, Mesh):
        raise TypeError(
            f"mesh is {given!r:.80}; expected a jax.sharding.Mesh, such as fourbeat.mesh(data=8)."
        )
    row_axes(given)
    _check_covers(given)
    if all(kind is AxisType.Auto for kind in given.axis_types):
        return given
    return Mesh(given.devices, given.axis_names, axis_types=(AxisType.Auto,) * len(given.axis_names))


def _check_covers(mesh: Mesh) -> None:
    """Raises if some processes have no device of a mesh: they would not take part, and the others wait."""
    if num_processes() == 1 or mesh.size == 1:
        return
    here = {device.process_index for device in mesh.devices.flat}
    if without := sorted(set(range(num_processes())) - here):
        which = f"process{'' if len(without) == 1 else 'es'} {', '.join(map(str, without))}"
        raise ValueError(
            f"the mesh ({described(mesh)}) has no device of {which}, one of {num_processes()}, and every "
            "process takes part in a step over a mesh. Use a mesh of all devices, such as "
            "fourbeat.mesh(data=-1). For work of one process alone, such as an evaluation on one device, use "
            "no mesh."
        )


def check_context() -> None:
    """Raises under `jax.set_mesh` with `Explicit` axes, where a step over a mesh does not trace."""
    current = jax.sharding.get_abstract_mesh()
    if any(kind is AxisType.Explicit for kind in current.axis_types):
        raise ValueError(
            f"jax.set_mesh has set a mesh with Explicit axes ({_sizes(dict(current.shape))}), under which a "
            "step over a mesh does not trace. Leave jax.set_mesh out: mesh= says where a step runs. Or set a "
            "mesh with Auto axes, such as fourbeat.mesh(data=8)."
        )


def row_axes(mesh: Mesh) -> tuple[str, ...]:
    """The axes over which the rows of a batch are split: `data` and `fsdp`, or the only one that there is.

    >>> import fourbeat as fb
    >>> row_axes(fb.mesh(data=-1))
    ('data',)
    """
    names = tuple(name for name in mesh.axis_names if name in _ROW_AXES)
    others = [name for name in mesh.axis_names if name not in (*_ROW_AXES, "tensor", SEQUENCE, REPLICAS)]
    if not names and len(mesh.axis_names) == 1 and others:
        return (str(others[0]),)
    if not names and others:
        raise ValueError(
            f"the mesh has the axes {described(mesh)}, and nothing tells over which of them the "
            "rows of a batch are split. Name those axes data or fsdp, as fourbeat.mesh(data=, fsdp=) does."
        )
    return tuple(map(str, names))


def num_row_shares(mesh: Mesh) -> int:
    """Into how many shares the rows of a batch are split."""
    return math.prod(mesh.shape[name] for name in row_axes(mesh))


def splits_batches(mesh: Mesh) -> bool:
    """Whether devices have different parts of a batch."""
    return num_row_shares(mesh) > 1 or mesh.shape.get(SEQUENCE, 1) > 1


def rows_spec(mesh: Mesh, shape: tuple[int, ...], *, num_leading: int = 0) -> PartitionSpec:
    """How a column lies on the mesh: its rows split, and its second axis where there is a sequence axis.

    Args:
      mesh: with `Auto` axes.
      shape: of the column.
      num_leading: axes before that of the rows, such as the steps of a block.
    """
    axes = row_axes(mesh)
    spec: list[Object] = [None] * num_leading
    spec.append(axes if len(axes) > 1 else axes[0] if axes else None)
    parts = mesh.shape.get(SEQUENCE, 1)
    if parts > 1 and len(shape) > num_leading + 1 and shape[num_leading + 1] % parts == 0:
        spec.append(SEQUENCE)
    return trimmed(spec)


def trimmed(spec: Iterable[Object]) -> PartitionSpec:
    """A spec without the Nones at its end, as XLA gives it back: else one place would have two names.

    >>> tuple(trimmed((None, "data", None)))
    (None, 'data')
    """
    entries = list(spec)
    while entries and entries[-1] is None:
        entries.pop()
    return PartitionSpec(*entries)


def written(spec: PartitionSpec) -> str:
    """A spec as people write it.

    >>> written(PartitionSpec(("data", "fsdp"), None, "tensor"))
    "P(('data', 'fsdp'), None, 'tensor')"
    """
    return f"P({', '.join(map(repr, spec))})"


def described(mesh: Mesh) -> str:
    """The axes of a mesh with their sizes, as errors write them."""
    return _sizes(dict(mesh.shape))


def is_of_processes(mesh: Mesh) -> bool:
    """Whether the devices of a mesh belong to several processes."""
    return num_processes() > 1 and len({device.process_index for device in mesh.devices.flat}) > 1


def same_devices(mesh: Mesh, other: Mesh) -> bool:
    """Whether two meshes are the same devices in the same places under the same names."""
    return mesh.axis_names == other.axis_names and np.array_equal(mesh.devices, other.devices)


def _sizes(shape: dict) -> str:
    return ", ".join(f"{name}={size}" for name, size in shape.items())


def _counted(num_devices: int) -> str:
    return f"{num_devices} device{'' if num_devices == 1 else 's'}"
