"""Stepping: one function of a member, run for all members in one program."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from fourbeat.replicating.convolutions import warn_where_slow
from fourbeat.replicating.forms import num_members, stacked
from fourbeat.shard.meshes import REPLICAS
from fourbeat.shard.rows import mesh_in_trace


def for_each(function: Callable[..., Any], held: tuple, shared: tuple, *, vmapped: bool) -> Any:
    """`function(*of_one_member, *shared)` for each member, in the form of the members.

    Over a mesh with an axis `replicas` each device runs the members that lie on it. Nothing in the program
    goes from one member to another, so it has no collective; one member a device runs as it does alone.

    Args:
      function: of one member.
      held: what the members hold: each of one form, stacked or a tuple.
      shared: what is the same for all, such as a batch.
      vmapped: whether stacked members run as one vmapped program, else one after the other.

    Returns:
      A tuple of results, one a member; or one tree with a leading axis of members.
    """
    one = jax.jit(function)  # traced once, however many members call it
    if type(held[0]) is tuple:
        return tuple(one(*each, *shared) for each in zip(*held, strict=True))
    mesh, run = mesh_in_trace(), _Run(one, len(held), vmapped)
    if mesh is None or REPLICAS not in mesh.shape:
        return run(*held, *shared)
    return _on_each_device(run, mesh, len(held), len(shared))(*held, *shared)


class _Run:
    """The members that lie together, vmapped or one after the other."""

    def __init__(self, one: Any, num_held: int, vmapped: bool):
        self._one, self._num_held, self._vmapped = one, num_held, vmapped

    def __call__(self, *args: Any) -> Any:
        held, shared = args[: self._num_held], args[self._num_held :]
        num = num_members(held[0])
        members = [jax.tree.map(lambda leaf, i=i: leaf[i], held) for i in range(num)]
        if not self._vmapped or num == 1:
            return stacked([self._one(*member, *shared) for member in members])
        warn_where_slow(self._one, (*members[0], *shared))
        in_axes = (*[0] * len(held), *[None] * len(shared))
        return jax.vmap(self._one, in_axes=in_axes)(*held, *shared)


def _on_each_device(run: Callable[..., Any], mesh: Mesh, num_held: int, num_shared: int) -> Callable:
    over, whole = PartitionSpec(REPLICAS), PartitionSpec()
    return jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(*[over] * num_held, *[whole] * num_shared),
        out_specs=over,
        axis_names={REPLICAS},
        check_vma=False,
    )
