"""A step over a mesh: its batch split by rows, its state kept where it lay when it first came in."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fourbeat.compiling.blocks import Block
from fourbeat.data.agreeing import COMPARED_EVERY, check_same, digest
from fourbeat.data.batch import Batch
from fourbeat.data.placement import place_on_every_device, place_rows
from fourbeat.distributed import num_processes
from fourbeat.shard.batch_layout import batch_shardings, on_the_mesh
from fourbeat.shard.laying_out import mesh_sharding, where
from fourbeat.shard.meshes import described, is_of_processes, same_devices, written
from fourbeat.shard.rows import (
    WholeBatchWarning,
    axes_of_program,
    idle_axes,
    of_state_laid_out,
    warn_of_idle_axes,
)
from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import Object, State


class PinnedProgram:
    """A compiled function of a state, whose state comes out with the shardings with which it came in.

    Host arrays of a batch go to the devices as the call takes them, each device with its own rows.

    Inputs, by name, keep the place that they have on the mesh; others go whole to every device.

    Args:
      function: `(state, *args, **inputs) -> (state, out)`.
      mesh: of several devices, that the state has to lie on.
      jit: `jax.jit`, with the options of the step.
    """

    def __init__(self, function: Callable[..., tuple[Any, Any]], mesh: Mesh, jit: Callable[..., Any]):
        def positional(state: State, inputs: dict[str, Any], *args: Any) -> tuple[Any, Any]:
            return function(state, *args, **inputs)  # jit with shardings takes no keywords

        positional.__name__ = function.__name__
        self._positional = positional
        self._mesh = mesh
        self._jit = jit
        self._shardings: dict[Any, Any] = {}  # of the state, by its structure
        self._programs: dict[Any, Any] = {}  # by the structures of the state and of the batch
        self._of_processes = is_of_processes(mesh)
        self._num_whole = 0  # batches that every process gave whole
        self._is_warned = False

    def __call__(self, state: State, /, *args: Any, **inputs: Any) -> tuple[Any, Any]:
        args = (self._on_the_mesh(args[0]), *args[1:]) if args else args
        inputs = self._laid_out(inputs) if inputs else inputs
        program, shardings = self._program(state, args, inputs)
        try:
            return program(state, inputs, *args)
        except ValueError as error:
            if "Sharding passed to jit does not match" not in str(error):
                raise
            check_lies_as(state, shardings[0])
            # the batch is the user's, and lies on the devices in another way
            return program(state, inputs, place_rows(args[0], shardings[2]), *args[1:])

    def lower(self, state: State, /, *args: Any, **inputs: Any) -> jax.stages.Lowered:
        """The function lowered for these arguments, as `jax.jit(...).lower` gives it."""
        args = (on_the_mesh(args[0], self._mesh), *args[1:]) if args else args
        inputs = self._laid_out(inputs)
        return self._program(state, args, inputs)[0].lower(state, inputs, *args)

    def shardings(self, state: State, args: tuple, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """How the state, and the batch with the inputs, lie on the mesh for these arguments."""
        whole = NamedSharding(self._mesh, PartitionSpec())
        batch = [_of_argument(arg, self._mesh) for arg in args]
        return shardings_on(state, self._mesh), (
            batch,
            jax.tree.map(lambda leaf: _place(leaf, whole), inputs),
        )

    def _on_the_mesh(self, batch: Object) -> Any:
        batch = on_the_mesh(batch, self._mesh)
        if not self._of_processes:
            return batch
        shardings = _of_argument(batch, self._mesh)
        if not any(map(_is_to_be_split, jax.tree.leaves(batch), jax.tree.leaves(shardings))):
            return batch
        if not self._is_warned and isinstance(getattr(batch, "batch", batch), Batch):
            self._is_warned = True
            warnings.warn(
                f"each of the {num_processes()} processes reads the whole of every batch. Let each read its "
                "own rows alone: fourbeat.loop(batches, start=state.step) or "
                "fourbeat.loop(batches, mesh=mesh).",
                WholeBatchWarning,
                stacklevel=4,
            )
        if self._num_whole % COMPARED_EVERY == 0:
            check_same(
                digest(batch),
                f"the batches of call {self._num_whole + 1} of the step",
                "A batch of NumPy arrays is taken for the whole one, which is the same in every process. "
                "Where each process has rows of its own, give the step what fourbeat.loop makes of "
                "fourbeat.data.local_batches(...).",
            )
        self._num_whole += 1
        return place_rows(batch, shardings)

    def _laid_out(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs on the mesh: arrays of another device would stop the call."""

        def laid_out(leaf: Object) -> Any:
            is_elsewhere = (
                isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and mesh_sharding(leaf) is None
            )
            return place_on_every_device(leaf, self._mesh) if is_elsewhere else leaf

        return jax.tree.map(laid_out, inputs)

    def _program(self, state: State, args: tuple, inputs: dict[str, Any]) -> tuple[Any, tuple]:
        structure = jax.tree.structure(state)
        leaves, form = jax.tree.flatten(args[0] if args else None)
        key = (structure, len(args), form, *[getattr(leaf, "shape", ()) for leaf in leaves])
        if key not in self._programs:
            pinned = self._shardings.get(structure)
            is_new = pinned is None
            if pinned is None:
                pinned = self._shardings[structure] = shardings_on(state, self._mesh)
            of_args = [_of_argument(args[0], self._mesh), *[None] * len(args[1:])] if args else []
            in_shardings = (pinned, None, *of_args)
            function = of_state_laid_out(self._positional, pinned, self._mesh)
            program = self._jit(function, in_shardings=in_shardings, out_shardings=(pinned, None))
            self._programs[key] = program, in_shardings
            idle = idle_axes((each.spec for each in jax.tree.leaves(pinned)), self._mesh)
            if idle and is_new:  # the step itself may split its arrays over them
                used = axes_of_program(program.trace(state, inputs, *args).jaxpr)
                warn_of_idle_axes((axis for axis in idle if axis not in used), self._mesh)
        return self._programs[key]


def _is_to_be_split(leaf: Object, sharding: NamedSharding) -> bool:
    is_here = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
    return is_here and not sharding.is_fully_replicated


def _place(leaf: Object, otherwise: NamedSharding) -> Any:
    return (mesh_sharding(leaf) if isinstance(leaf, jax.Array) else None) or otherwise


def _of_argument(batch: Object, mesh: Mesh) -> Any:
    if isinstance(batch, Block):
        return Block(batch_shardings(batch.batch, mesh, is_stack=True), NamedSharding(mesh, PartitionSpec()))
    return batch_shardings(batch, mesh)


def shardings_on(state: State, mesh: Mesh) -> Any:
    """The shardings of a state's leaves, all of them on the mesh.

    Raises:
      ValueError: a leaf lies elsewhere; the text names it.
    """
    whole = NamedSharding(mesh, PartitionSpec())

    def sharding_of(place: str, leaf: Object) -> Any:
        if not isinstance(leaf, jax.Array):
            return whole
        found = mesh_sharding(leaf)
        if found is not None and same_devices(found.mesh, mesh):
            return NamedSharding(mesh, found.spec)
        raise ValueError(
            f"{place} lies {where(leaf)}, and the step is compiled for the mesh of {described(mesh)}. "
            "Create the state there, beats.init(make_model, mesh=mesh, shard=...), or copy it there, "
            "fourbeat.shard.place(state, mesh, rules)."
        )

    named = leaves_with_paths(state, "state")
    if len({where(leaf) for _, leaf in named if isinstance(leaf, jax.Array)}) == 1:
        named = [("the state", leaf) for _, leaf in named]
    return jax.tree.structure(state).unflatten([sharding_of(place, leaf) for place, leaf in named])


def check_lies_as(state: State, pinned: Object) -> None:
    """Raises if a leaf of a state lies otherwise than when the step was compiled; the text names it."""
    expected = jax.tree.leaves(pinned)
    for (place, leaf), sharding in zip(leaves_with_paths(state, "state"), expected, strict=True):
        if (
            isinstance(leaf, jax.Array)
            and leaf.committed
            and not leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
        ):
            raise ValueError(
                f"{place} lies {where(leaf)}, and this step was compiled for a state in which it is split "
                f"as {written(sharding.spec)}. Another program for it would be compiled in silence. Copy it "
                "to where it lay: state.replace keeps each leaf's place, and fourbeat.shard.place(state, "
                "mesh, rules) lays a whole state out."
            )
