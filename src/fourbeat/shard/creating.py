"""Creating: a state that comes into being where it will lie, and is never whole on one device."""

import inspect
import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from fourbeat.shard.laying_out import shardings_of
from fourbeat.shard.meshes import described
from fourbeat.shard.one_by_one import literals_of, one_by_one
from fourbeat.shard.rules import Rules
from fourbeat.shard.whole_arrays import LARGE_BYTES, warn_of_whole
from fourbeat.types import Device, Model, Object, State


class MemoryLimitError(ValueError):
    """A state does not fit into the memory of its devices; nothing was made."""


def created(
    make_model: Callable[[], Model], start: Callable[[Model], State], mesh: Mesh, rules: Rules
) -> State:
    """The state `start(make_model())`, laid out as the rules say.

    It is made by one compiled program whose outputs lie on the mesh: each device computes its part.

    Raises:
      MemoryLimitError: a device has not the memory for its part; nothing was made.
      ValueError: a rule does not fit; the text names the parameter.
    """
    program, numbers, structure = creation(make_model, start, mesh, rules)
    return jax.tree.unflatten(structure, program(True, numbers))


def creation(
    make_model: Callable[[], Model], start: Callable[[Model], State], mesh: Mesh, rules: Rules
) -> tuple[jax.stages.Compiled, list[Any], Any]:
    """The compiled program of `created`, its arguments for `one_by_one`, and the structure of the state."""
    program, shapes = _traced(lambda: start(make_model()))
    _warn_of_large(make_model, program.consts)
    shardings = shardings_of(shapes, mesh, rules)
    _check_fits(shapes, shardings, mesh, rules)
    make = jax.jit(partial(one_by_one, program), out_shardings=jax.tree.leaves(shardings))
    numbers = literals_of(program)
    return make.lower(True, numbers).compile(), numbers, jax.tree.structure(shapes)


def abstract_state(make: Callable[[], State], mesh: Mesh, rules: Rules) -> tuple[State, Any]:
    """The shapes of the state that `make` would make, and their shardings."""
    _, shapes = _traced(make)
    return shapes, shardings_of(shapes, mesh, rules)


def _traced(make: Callable[[], State]) -> tuple[Any, State]:
    try:
        return jax.make_jaxpr(make, return_shape=True)()
    except ValueError as error:
        if "mesh context or metadata is required" not in str(error):
            raise
    with nnx.use_eager_sharding(False):  # variables with `nnx.with_partitioning` would place themselves
        return jax.make_jaxpr(lambda: make(), return_shape=True)()


def bytes_on_a_device(shapes: Any, shardings: Any) -> int:
    """The bytes of a tree that lie on each device."""
    return sum(
        math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True)
    )


def bytes_of_a_device(device: Device) -> int | None:
    """The memory of a device; on CPU its share of the machine's; None where the device does not tell."""
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit")
    try:
        return (
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(jax.local_devices(backend="cpu"))
        )
    except (ValueError, OSError, AttributeError):
        return None


def _check_fits(shapes: Any, shardings: Any, mesh: Mesh, rules: Rules) -> None:
    device = mesh.devices.flat[0]
    limit, needed = bytes_of_a_device(device), bytes_on_a_device(shapes, shardings)
    if limit is None or needed <= limit:
        return
    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    raise MemoryLimitError(
        f"the state does not fit: each device would hold {in_units(needed)} of it and has {in_units(limit)} "
        f"({device.device_kind}, mesh {described(mesh)}, {rules!r}). In all the state is {in_units(whole)}. "
        "Split it over more devices, shard=fourbeat.shard.fsdp() and a larger fsdp= in the mesh; or use an "
        "optimizer that keeps less. To fit a step beside it, see fourbeat.shard.memory: jax.checkpoint, "
        "accumulate= and bfloat16 make a step smaller. Nothing was made."
    )


def in_units(num_bytes: int) -> str:
    """Bytes as a person reads them.

    >>> in_units(1_500), in_units(33_554_432)
    ('1.5 kB', '33.6 MB')
    """
    amount = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"


def _warn_of_large(make: Callable[..., Any], consts: list) -> None:
    large = [each for each in consts if getattr(each, "nbytes", 0) >= LARGE_BYTES]
    if not large:
        return
    listed = ", ".join(
        f"{_name_in(make, each)}{each.dtype}{list(each.shape)} of {in_units(each.nbytes)}"
        for each in large[:5]
    )
    warn_of_whole(
        f"the function that makes the model holds {len(large)} large array{'s' if len(large) > 1 else ''} "
        f"that it did not make: {listed}. Each is whole on one device, and copied into the program that "
        "makes the state. Make it inside the function; or build the model outside and pass the model itself, "
        "which is then laid out from where it is.",
        stacklevel=6,
    )


def _name_in(make: Callable[..., Any], array: Object) -> str:
    """The name by which a function holds an array, and a space; nothing where it holds it in another way."""
    try:
        held = inspect.getclosurevars(make)
    except (TypeError, ValueError):  # it is no plain function
        return ""
    for name, value in {**held.globals, **held.nonlocals}.items():
        if value is array:
            return f"{name} "
    return ""
