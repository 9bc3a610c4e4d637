"""The rows of a batch that are a process's own, where the devices of a mesh belong to several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fourbeat.data.batch import Batch
from fourbeat.data.placement import place_on_every_device, place_parts, place_rows
from fourbeat.distributed import num_processes, process_index
from fourbeat.shard.batch_layout import batch_shardings
from fourbeat.shard.laying_out import mesh_sharding
from fourbeat.shard.meshes import (
    checked_mesh,
    described,
    is_of_processes,
    num_row_shares,
    row_axes,
    rows_spec,
)
from fourbeat.shard.rows import num_rows_to_split
from fourbeat.trees.example_counts import listed
from fourbeat.types import Batch as AnyBatch
from fourbeat.types import Object


def mesh_of_processes(mesh: Mesh | None, leaf: Object = None) -> Mesh | None:
    """The mesh whose devices belong to several processes; None where there is none.

    Args:
      mesh: as the user gave it, or None.
      leaf: an array, such as the step of a state, whose mesh is taken where none is given.
    """
    if mesh is not None:
        mesh = checked_mesh(mesh)
    elif num_processes() > 1 and (found := mesh_sharding(leaf)) is not None:
        mesh = checked_mesh(found.mesh)
    return mesh if mesh is not None and is_of_processes(mesh) else None


def own_shares(processes: np.ndarray, axis_names: Sequence[str], axes: Sequence[str], process: int):
    """Which shares of the rows lie on the devices of a process, ascending; several may hold the same one.

    Args:
      processes: the number of each device's process, in the shape of the mesh.
      axis_names: of the mesh.
      axes: those over which the rows are split.
      process: whose shares.

    >>> own_shares(np.array([[0, 1], [2, 3]]), ("data", "tensor"), ("data",), 3).tolist()
    [1]
    """
    places = [list(axis_names).index(axis) for axis in axes]
    by_share = np.moveaxis(processes, places, range(len(places)))
    num_shares = int(np.prod(by_share.shape[: len(places)], dtype=int))
    return np.flatnonzero((by_share.reshape(num_shares, -1) == process).any(axis=1))


def rows_of_shares(shares: np.ndarray, num_shares: int, num_rows: int) -> np.ndarray:
    """The rows of some shares; all rows where they do not divide into shares, for then none is split.

    >>> rows_of_shares(np.array([1, 3]), 4, 8).tolist(), rows_of_shares(np.array([1]), 4, 3).tolist()
    ([2, 3, 6, 7], [0, 1, 2])
    """
    if num_rows % num_shares:
        return np.arange(num_rows)
    size = num_rows // num_shares
    return (shares[:, None] * size + np.arange(size)).reshape(-1)


def handed_over(batch: AnyBatch, mesh: Mesh, *, is_local: bool, num_leading: int = 0) -> Any:
    """A plain batch of the host as arrays over a mesh; its strings stay beside it.

    Args:
      batch: the process's own rows, or the whole batch.
      mesh: of the devices of several processes.
      is_local: whether it holds the own rows alone.
      num_leading: axes before that of the rows.
    """
    columns = batch.columns if isinstance(batch, Batch) else batch
    if is_local:
        one = jax.tree.map(lambda leaf: leaf[0], columns) if num_leading else columns
        num_own = num_rows_to_split(one, mesh)
        columns = ProcessRows(mesh).joined(columns, num_own, num_leading=num_leading)
    else:
        columns = place_rows(columns, batch_shardings(columns, mesh, is_stack=num_leading > 0))
    return Batch(columns, stacked=num_leading > 0, texts=batch.texts) if isinstance(batch, Batch) else columns


class ProcessRows:
    """The rows of each batch that this process reads and hands over: see `OwnRows`.

    Args:
      mesh: of the devices of several processes.
    """

    def __init__(self, mesh: Mesh):
        self._mesh = mesh
        self._num_shares = num_row_shares(mesh)
        processes = np.vectorize(lambda device: device.process_index, otypes=[int])(mesh.devices)
        by_process = [
            own_shares(processes, mesh.axis_names, row_axes(mesh), each) for each in range(num_processes())
        ]
        self._shares = by_process[process_index()]
        self._num_held = [len(shares) for shares in by_process]

    def of(self, num_rows: int) -> np.ndarray:
        """See `OwnRows.of`."""
        return rows_of_shares(self._shares, self._num_shares, num_rows)

    def placed(self, columns: Mapping[str, np.ndarray], num_rows: int, *, num_leading: int) -> dict[str, Any]:
        """See `OwnRows.placed`."""
        own = self.of(num_rows)
        return {name: self._whole(column, num_rows, own, num_leading) for name, column in columns.items()}

    def gathered(
        self, read: Callable[[np.ndarray], Mapping[str, np.ndarray]], num_examples: int
    ) -> dict[str, Any]:
        """See `OwnRows.gathered`."""
        devices = sorted(self._mesh.devices.flat, key=lambda device: (device.process_index, device.id))
        num, here = num_processes(), process_index()
        if len(devices) != num * sum(device.process_index == here for device in devices):
            columns = read(np.arange(num_examples))  # no array has a part of one size in each process
            return {name: place_on_every_device(column, self._mesh) for name, column in columns.items()}
        by_process = Mesh(np.array(devices).reshape(num, -1), ("process", "device"))
        size = -(-num_examples // num)
        own = np.arange(here * size, min((here + 1) * size, num_examples))
        columns = read(own if len(own) else np.arange(1))

        def of_all(column: np.ndarray) -> jax.Array:
            part = np.zeros((size, *column.shape[1:]), column.dtype)
            part[: len(own)] = column[: len(own)]
            sharding = NamedSharding(by_process, PartitionSpec("process"))
            return place_parts(part, (num * size, *part.shape[1:]), sharding, lambda _: part)

        whole = NamedSharding(by_process, PartitionSpec())
        cut = jax.jit(
            lambda tree: {name: column[:num_examples] for name, column in tree.items()}, out_shardings=whole
        )
        on_all = cut({name: of_all(column) for name, column in columns.items()})
        return {name: place_on_every_device(column, self._mesh) for name, column in on_all.items()}

    def joined(self, batch: AnyBatch, num_own: int | None, *, num_leading: int = 0) -> Any:
        """A batch of every process's own examples: each gives some of its rows.

        Args:
          batch: arrays of the host. What has no rows has to be the same in every process.
          num_own: rows of this batch, the same number in every process.
          num_leading: axes before that of the rows.

        Raises:
          ValueError: the rows do not divide over the devices of this process, or nothing tells them; or
            several processes hold the same rows.
        """
        if sum(self._num_held) > self._num_shares or len(set(self._num_held)) > 1:
            raise ValueError(
                f"the rows of a batch are split into {self._num_shares} shares over the mesh "
                f"({described(self._mesh)}), of which the processes hold {self._num_held}: local batches "
                "need a mesh where each process holds as many as any other, and no share twice. Use a mesh "
                "whose axes tensor, sequence and replicas stay within a process; or read by number, "
                "fourbeat.data.Examples(source).batches(...), or fourbeat.data.global_batches(...)."
            )
        if num_own is None:
            raise ValueError(
                f"nothing tells the rows of the local batch ({listed(batch)}). Give all columns one leading "
                "axis, or add a column 'weight' of one value an example."
            )
        num_shares = len(self._shares)
        if num_own % num_shares:
            raise ValueError(
                f"a local batch of {num_own} examples does not divide over the {num_shares} shares that this "
                f"process holds of the mesh ({described(self._mesh)}). Use a batch size that is a "
                f"multiple of {num_shares}, and drop or pad a short last batch: fourbeat.data.padded(...)."
            )
        num_rows = num_own * self._num_shares // num_shares
        own = self.of(num_rows)

        def whole(leaf: Object) -> Any:
            leaf = np.asarray(leaf)
            if leaf.shape[num_leading : num_leading + 1] == (num_own,):
                return self._whole(leaf, num_rows, own, num_leading)
            return place_parts(
                leaf, leaf.shape, NamedSharding(self._mesh, PartitionSpec()), lambda at: leaf[at]
            )

        return jax.tree.map(whole, batch)

    def _whole(self, column: np.ndarray, num_rows: int, own: np.ndarray, num_leading: int) -> jax.Array:
        shape = (*column.shape[:num_leading], num_rows, *column.shape[num_leading + 1 :])
        is_split = num_rows % self._num_shares == 0
        spec = rows_spec(self._mesh, shape, num_leading=num_leading) if is_split else PartitionSpec()

        def part(at: tuple[slice, ...]) -> np.ndarray:
            start, stop, _ = at[num_leading].indices(num_rows)
            place = int(np.searchsorted(own, start))
            rows = slice(place, place + stop - start)
            return column[(*at[:num_leading], rows, *at[num_leading + 1 :])]

        return place_parts(column, shape, NamedSharding(self._mesh, spec), part)
