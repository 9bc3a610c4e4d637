"""Programs that read a state again and again, one batch or many a call."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from fourbeat.beats.state import TrainState
from fourbeat.compiling.blocks import Block
from fourbeat.data.batches import Batches
from fourbeat.data.plain_batches import one_pass
from fourbeat.replicating.replicas_state import ReplicasState, of_members
from fourbeat.shard.batch_layout import placed
from fourbeat.shard.laying_out import mesh_sharding
from fourbeat.shard.meshes import checked_mesh, is_of_processes
from fourbeat.shard.process_passes import one_pass_over
from fourbeat.trees.buffers import copied
from fourbeat.trees.jaxprs import has_convolution
from fourbeat.types import BatchSource, Tree

# batches of one call, and bytes of those on the host: one call takes as long as many batches of a small model
_FUSED, _FUSED_BYTES = 256, 2**20
# what neither evaluation nor prediction reads: leaving it out keeps each call small
_UNUSED: dict[str, Any] = dict.fromkeys(("opt_state", "metrics", "ema", "loss_scale", "guard"))


class Programs:
    """A step that reads a state again and again, compiled over its leaves: a tree costs time at each call.

    Args:
      step: `(state, rest, batch, ...) -> (rest, out)`, to which `rest` is donated.
      in_shares: makes of `step` and a mesh a step with its rows split.
    """

    def __init__(self, step: Callable[..., tuple[Any, Any]], in_shares: Callable[..., Any]):
        self._step = step
        self._in_shares = in_shares
        self._programs: dict[Any, Callable[..., tuple[Any, Any]]] = {}
        self._fused: dict[Any, Callable[..., tuple[Any, Any]] | None] = {}

    def of(
        self, state: TrainState | ReplicasState, *, donates: bool = False, mesh: Mesh | None = None
    ) -> tuple[Callable[..., tuple[Any, Any]], list]:
        """The compiled step for states of this structure, and the leaves of this one.

        Args:
          state: the state to read.
          mesh: over which the rows of each batch are split; None for one device.
          donates: whether the argument after the batch, the totals, is donated. This pays for large totals;
            for small ones it costs more than a new buffer.
        """
        leaves, structure = jax.tree.flatten(state)
        key = structure, donates, mesh
        if key not in self._programs:
            over = self._step if mesh is None else self._in_shares(self._step, mesh)

            def step(leaves: list, *args: Any) -> tuple[Any, Any]:
                return over(structure.unflatten(leaves), *args)

            step.__name__ = self._step.__name__
            self._programs[key] = jax.jit(step, donate_argnums=(1, 3) if donates else 1)
        return self._programs[key], leaves

    def fused(
        self, step: Any, args: tuple, looped: Callable[[Any, tuple], Any]
    ) -> Callable[..., tuple[Any, Any]] | None:
        """The step over a `Block`, in a program that loops; None if that is slow or impossible.

        Args:
          step: from `of`.
          args: the arguments of its first call. They are traced once, for both.
          looped: makes the program of the trace and of these arguments, or None.
        """
        kind = step, *form_of(args)  # a trace that is there already takes as long to find as many batches
        if kind not in self._fused:
            traced = step.trace(*args)
            is_slow = jax.default_backend() == "cpu" and has_convolution(traced.jaxpr.jaxpr)
            self._fused[kind] = None if is_slow else looped(traced, args)
        return self._fused[kind]


def fusable(batches: BatchSource, state: TrainState | ReplicasState) -> tuple[Batches, int] | None:
    """The batches and how many of them go in one call; None where each goes alone.

    A few numbers stand for a batch that lies on the device. Of batches on the host one call takes as many as
    are small together.
    """
    if not (isinstance(batches, Batches) and batches.is_read_at_once and batches.is_of_one_shape):
        return None
    if batches.dropped or not isinstance(state.numbers.sharding, SingleDeviceSharding):
        return None
    most = len(batches) if batches.resident else int(_FUSED_BYTES // max(batches.batch_bytes, 1))
    return (batches, min(_FUSED, most)) if most > 1 else None


def in_blocks(batches: Batches, size: int) -> Iterator[tuple[int, Block]]:
    """All batches in blocks of `size`, each with the number of its first batch."""
    for start in range(0, len(batches), size):
        num_steps = min(size, len(batches) - start)
        yield start, Block(batches.stacked(start, num_steps, size), np.int32(num_steps))


def form_of(tree: Tree) -> tuple[Any, tuple]:
    """The structure of a tree, with the shapes and dtypes of its arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


def what_is_read(state: TrainState | ReplicasState, carry: bool) -> tuple[Any, Any]:
    """What the steps read of a state; and `rest` in buffers of its own, where it goes from batch to batch."""
    bare = of_members(state, lambda member: dataclasses.replace(member, **_UNUSED))
    return (with_rest(bare, None), copied(rest_of(state))) if carry else (bare, None)


def rest_of(state: TrainState | ReplicasState) -> Any:
    """The other variables of the model; those of all members, in the form in which the state holds them."""
    held = state.held if isinstance(state, ReplicasState) else state
    return tuple(each.rest for each in held) if type(held) is tuple else held.rest


def with_rest(state: TrainState | ReplicasState, rest: Any) -> Any:
    """The state with other variables of the model, as `rest_of` gives them; None for none at all."""
    held = state.held if isinstance(state, ReplicasState) else state
    if type(held) is not tuple:
        return of_members(state, lambda member: dataclasses.replace(member, rest=rest))
    parts = [None] * len(held) if rest is None else rest
    members = (dataclasses.replace(member, rest=each) for member, each in zip(held, parts, strict=True))
    return dataclasses.replace(state, held=tuple(members))


def all_of(
    batches: BatchSource, would_miss: str, to_do: str, mesh: Mesh | None
) -> Iterator[tuple[Any, int | None]]:
    """Every batch of one pass, laid out over the mesh, with its number of real examples where it is not told.

    Raises:
      TypeError: of several processes nothing says whose the batches are.
      ValueError: the batches leave examples out, or there is none.
    """
    dropped = getattr(batches, "dropped", 0)
    if dropped:
        raise ValueError(
            f"{would_miss} {dropped} examples: these batches drop what does not fill the last "
            "one. Use batches(..., remainder='pad'); padding counts nothing."
        )
    each = None
    over = mesh if mesh is not None and is_of_processes(mesh) else None
    for each in one_pass(batches) if over is None else one_pass_over(batches, over):
        yield placed(each[0], mesh), each[1]
    if each is None:
        raise ValueError(f"there is nothing to {to_do}: batches gave no batch at all.")


def mesh_of(state: TrainState | ReplicasState) -> Mesh | None:
    """The mesh that a state lies on; None for one device."""
    found = mesh_sharding(state.numbers)
    return None if found is None else checked_mesh(found.mesh)
