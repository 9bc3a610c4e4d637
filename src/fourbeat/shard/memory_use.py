"""Memory: what a step takes on each device, before anything exists."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from fourbeat.models.constructors import check_needs_nothing
from fourbeat.shard.batch_layout import batch_shardings
from fourbeat.shard.creating import abstract_state, bytes_of_a_device, bytes_on_a_device, in_units
from fourbeat.shard.meshes import checked_mesh, described
from fourbeat.shard.rows import of_state_laid_out, trained_in_shares
from fourbeat.shard.rules import Rules, checked_rules
from fourbeat.types import Batch, Model, Object, Tree


@dataclass(frozen=True)
class Memory:
    """What a training step takes on each device, in bytes. Printed, it is a table.

    Attributes:
      state: parameters, optimizer state and all else in a `TrainState`.
      batch: one batch, with columns that stay on the device, and the inputs of the step.
      temporaries: what the compiled step needs beside them: activations, gradients, gathered parameters; the
        new state, where the old one is not donated.
      limit: the memory of a device; None where it does not tell.
      mesh: the axes of the mesh, for the text; None for one device.
    """

    state: int
    batch: int
    temporaries: int
    limit: int | None
    mesh: str | None

    @property
    def total(self) -> int:
        """All of it."""
        return self.state + self.batch + self.temporaries

    @property
    def fits(self) -> bool:
        """Whether a device has so much; True where it does not tell."""
        return self.limit is None or self.total <= self.limit

    def __str__(self) -> str:
        rows = [("state", self.state), ("batch", self.batch), ("temporaries", self.temporaries)]
        rows += [("in all", self.total)] + ([] if self.limit is None else [("a device has", self.limit)])
        lines = [f"{name:<13}{in_units(num_bytes):>10}" for name, num_bytes in rows]
        where = "" if self.mesh is None else f" a device on the mesh of {self.mesh}"
        return "\n".join([f"bytes{where}", *lines])


def memory(
    beats: Object,
    make_model: Callable[[], Model],
    batch: Batch,
    *,
    mesh: Mesh,
    rules: Rules | None = None,
) -> Memory:
    """What a training step takes on each device of a mesh; the step is compiled, and no array is made.

    Args:
      beats: from `four_beats`.
      make_model: makes the model.
      batch: one batch of training; of its arrays only shape and dtype matter, `jax.ShapeDtypeStruct` will do.
      mesh: a `jax.sharding.Mesh`; its devices may be fewer than a run will have, never more than there are.
      rules: as `beats.init` takes them; default `replicated()`.

    Returns:
      The bytes as XLA's own `memory_analysis` of the compiled step has them.

    >>> import fourbeat as fb, jax.numpy as jnp, optax
    >>> beats = fb.four_beats(lambda model, batch: (batch["x"] @ model["w"]).sum(-1), optax.sgd(0.1))
    >>> batch = {"x": jax.ShapeDtypeStruct((8, 512), jnp.float32)}
    >>> needed = memory(beats, lambda: {"w": jnp.ones((512, 4))}, batch, mesh=fb.mesh(data=-1))
    >>> needed.state >= 512 * 4 * 4, needed.fits
    (True, True)
    """
    compiled, state_bytes, batch_bytes = compiled_for_shapes(beats, make_model, batch, mesh=mesh, rules=rules)
    return memory_of(compiled, state_bytes, batch_bytes, mesh)


def memory_of(compiled: jax.stages.Compiled, state: int, batch: int, mesh: Mesh | None) -> Memory:
    """What a compiled step takes, by XLA's own analysis; `state` and `batch` are bytes on each device."""
    analysis: Any = compiled.memory_analysis()
    new = int(analysis.output_size_in_bytes) - int(analysis.alias_size_in_bytes)
    return Memory(
        state=state,
        batch=batch,
        temporaries=int(analysis.temp_size_in_bytes) + new,
        limit=bytes_of_a_device(jax.devices()[0] if mesh is None else mesh.devices.flat[0]),
        mesh=None if mesh is None else described(mesh),
    )


def bytes_of_arguments(arguments: Tree, shardings: Tree | None) -> int:
    """The bytes that the arguments of a step have on each device; without shardings they lie on one."""
    shapes = jax.tree.map(shape_of, arguments)
    whole = SingleDeviceSharding(jax.devices()[0])
    return bytes_on_a_device(
        shapes, jax.tree.map(lambda _: whole, shapes) if shardings is None else shardings
    )


class CompiledForShapes(NamedTuple):
    """A training step as XLA compiled it, and the bytes on each device of what it takes."""

    compiled: jax.stages.Compiled
    state_bytes: int
    batch_bytes: int


def compiled_for_shapes(
    beats: Object,
    make_model: Callable[[], Model],
    batch: Batch,
    *,
    mesh: Mesh,
    rules: Rules | None = None,
) -> CompiledForShapes:
    """A training step over a mesh, compiled for shapes alone; see `memory`."""
    mesh = checked_mesh(mesh)
    check_needs_nothing(make_model)
    state, shardings = abstract_state(lambda: beats.init(make_model()), mesh, checked_rules(rules))
    batch = jax.tree.map(shape_of, batch)
    over = batch_shardings(batch, mesh)
    step = jax.jit(
        of_state_laid_out(trained_in_shares(beats.train_step, mesh), shardings, mesh),
        in_shardings=(shardings, over),
        out_shardings=(shardings, None),
        donate_argnums=0,
    )
    compiled = step.lower(state, batch).compile()
    return CompiledForShapes(compiled, bytes_on_a_device(state, shardings), bytes_on_a_device(batch, over))


def shape_of(leaf: Object) -> jax.ShapeDtypeStruct:
    """The shape and dtype with which a compiled function takes a leaf."""
    if isinstance(leaf, jax.ShapeDtypeStruct | jax.Array):  # typed keys too, which are no NumPy arrays
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return jax.ShapeDtypeStruct(np.shape(leaf), jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype))
