"""The state of replicas: one pytree that holds the states of all members."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding

from fourbeat.beats.state import TrainState
from fourbeat.data.placement import place_over_mesh_like
from fourbeat.metrics.host_scores import TRAINED, host_values, read_scores
from fourbeat.replicating.forms import one_of, stacked
from fourbeat.replicating.member_metrics import MemberMetrics
from fourbeat.shard.laying_out import shardings_of
from fourbeat.shard.meshes import REPLICAS, described, trimmed
from fourbeat.shard.rules import Rules
from fourbeat.trees.buffers import copied
from fourbeat.trees.donation import explaining_used_up
from fourbeat.types import Params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ReplicasState:
    """The states of several members, as one pytree. Made by the `init` of `fourbeat.replicas`.

    It goes where a `TrainState` goes: through compiled steps, evaluation, checkpoints and the loop.

    Attributes:
      step: int32 scalar, batches consumed: the place in the data, which all members share.
      going: bool (n,), which members go on.
      held: the members: a `TrainState` whose arrays have a leading axis of members, or a tuple of states.
      vmapped: whether stacked members run as one vmapped program, else one after the other in one program.
    """

    step: jax.Array
    going: jax.Array
    held: Any
    vmapped: bool = dataclasses.field(metadata={"static": True})

    @property
    def num_members(self) -> int:
        """How many members there are, those that have stopped included."""
        return int(self.going.shape[-1])

    @property
    def is_stacked(self) -> bool:
        """Whether the arrays of the members have a leading axis of members; else each has its own."""
        return type(self.held) is not tuple

    def __getattr__(self, name: str) -> Any:  # of one run's state: several members have no such field
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"the state of replicas has no attribute {name!r}. What a TrainState has, each member has: "
            f"state.member(0).{name}. The beats of fb.replicas take the state as it is."
        )

    @property
    def numbers(self) -> jax.Array:
        """What tells where a state lies, as `TrainState.numbers` does."""
        return self.step

    @property
    @explaining_used_up
    def running(self) -> np.ndarray:
        """Which members go on: bool (n,), on the host."""
        return np.asarray(self.going)

    @property
    @explaining_used_up
    def params(self) -> Params:
        """The parameters of all members, with a leading axis of members."""
        return self.held.params if self.is_stacked else stacked([each.params for each in self.held])

    @property
    @explaining_used_up
    def metrics(self) -> MemberMetrics | None:
        """The accumulated metrics of each member, or None."""
        if self.is_stacked:
            return None if self.held.metrics is None else MemberMetrics(self.held.metrics)
        parts = tuple(each.metrics for each in self.held)
        return None if parts[0] is None else MemberMetrics(parts)

    @property
    def members(self) -> tuple[TrainState, ...]:
        """A copy of each member's state."""
        return tuple(self.member(place) for place in range(self.num_members))

    @explaining_used_up
    def member(self, place: int) -> TrainState:
        """A copy of one member's state, as the `TrainState` of its run alone.

        A member that has stopped has the step at which it stopped.

        Args:
          place: from 0 on.

        Raises:
          IndexError: there is no such member.
        """
        if not 0 <= place < self.num_members:
            raise IndexError(f"there is no member {place!r}: the members are 0 to {self.num_members - 1}.")
        state = one_of(self.held, int(place))
        if any(isinstance(leaf.sharding, NamedSharding) for leaf in jax.tree.leaves(state)):
            state = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state)
        return copied(state)

    @explaining_used_up
    def stop(self, which: Any) -> Self:
        """A state in which some members have stopped: later steps leave them as they are, to the bit.

        A member that has stopped stays so.

        Args:
          which: bool (n,), such as `stopping.stopped` of a `fourbeat.control.MemberStopping`.

        Raises:
          ValueError: it is not one bool a member.
        """
        asked = np.asarray(which)
        if asked.shape != (self.num_members,) or asked.dtype != bool:
            raise ValueError(
                f"which is {asked.dtype} of shape {asked.shape}; expected one bool for each of the "
                f"{self.num_members} members, True where it is to stop."
            )
        going = place_over_mesh_like(self.going & ~jnp.asarray(asked), self.going)
        return dataclasses.replace(self, going=going)

    @explaining_used_up
    def replace(self, **changes: Any) -> Self:
        """A copy of this state with some fields of its members changed.

        Args:
          changes: fields of `TrainState` by name, each with a leading axis of members:
            `state.replace(lr_scale=[1.0, 0.5])`.

        Raises:
          TypeError: no such field.
          ValueError: another structure or shape.
        """
        if self.is_stacked:
            return copied(dataclasses.replace(self, held=self.held.replace(**changes)))
        each = [
            {name: _entry(value, place) for name, value in changes.items()}
            for place in range(self.num_members)
        ]
        held = tuple(state.replace(**own) for state, own in zip(self.held, each, strict=True))
        return copied(dataclasses.replace(self, held=held))

    @explaining_used_up
    def pop_metrics(self) -> tuple[dict, Self]:
        """The metrics since the last call, an entry a member, and a state that starts them anew.

        Returns:
          `(values, state)`. The values are NumPy arrays by name with a leading axis of members; empty
          without metrics.
        """
        metrics = self.metrics
        if metrics is None:
            return {}, self
        if self.is_stacked:
            values = read_scores(metrics, TRAINED, stacklevel=3)  # beside this one, of its decorator
            empty = place_over_mesh_like(metrics.reset().held, self.held.metrics)
            return values, dataclasses.replace(self, held=dataclasses.replace(self.held, metrics=empty))
        values = host_values(metrics.compute())
        held = tuple(each.pop_metrics()[1] for each in self.held)  # each member warns by itself
        return values, dataclasses.replace(self, held=held)

    def shardings(self, mesh: Mesh, rules: Rules) -> Any:
        """How this state lies on a mesh: the members over its axis `replicas`, each as the rules say."""
        whole = NamedSharding(mesh, trimmed(()))
        if not self.is_stacked:
            held = tuple(shardings_of(each, mesh, rules) for each in self.held)
            return dataclasses.replace(self, step=whole, going=whole, held=held)
        size = mesh.shape.get(REPLICAS, 1)
        if self.num_members % size:
            raise ValueError(
                f"{self.num_members} members do not divide over the axis {REPLICAS!r} of the mesh of "
                f"{described(mesh)}. Use a multiple of {size} members."
            )
        one = jax.eval_shape(lambda held: jax.tree.map(lambda leaf: leaf[0], held), self.held)
        of_one = shardings_of(one, mesh, rules)
        axis = REPLICAS if REPLICAS in mesh.shape else None
        held = jax.tree.map(lambda each: NamedSharding(mesh, trimmed((axis, *each.spec))), of_one)
        going = NamedSharding(mesh, trimmed((axis,)))
        return dataclasses.replace(self, step=whole, going=going, held=held)

    @property
    def way(self) -> str:
        """How the members are stepped, in words."""
        return "vmapped in one program" if self.vmapped else "one after the other in one program"

    def __repr__(self) -> str:
        about = f"{self.num_members} members, {self.way}"
        if not isinstance(self.step, jax.Array) or isinstance(self.step, Tracer) or self.step.is_deleted():
            return f"ReplicasState({about})"
        num_stopped = int((~self.running).sum())
        stopped = f", {num_stopped} stopped" if num_stopped else ""
        return f"ReplicasState(step={int(self.step)}, {about}{stopped})"


def _entry(value: Any, place: int) -> Any:
    """The part of a value with a leading axis of members that belongs to one of them."""
    if isinstance(value, Sequence):
        return value[place]
    return jax.tree.map(lambda leaf: leaf[place], value)


def of_members(state: Any, function: Callable[[TrainState], TrainState]) -> Any:
    """A state with a function applied to what it holds: to each member, or to those that are stacked.

    Args:
      state: a `ReplicasState`, or a `TrainState`, to which the function is applied itself.
      function: changes fields and reads no shapes.
    """
    if not isinstance(state, ReplicasState):
        return function(state)
    held = function(state.held) if state.is_stacked else tuple(map(function, state.held))
    return dataclasses.replace(state, held=held)


def of_all_members(metric: Any, state: Any) -> Any:
    """A metric that sees what each member of the state gives; the metric itself for the state of one."""
    if not isinstance(state, ReplicasState) or isinstance(metric, MemberMetrics):
        return metric
    return MemberMetrics.of(metric, state.num_members, is_stacked=state.is_stacked)
