"""Rules: where each parameter lies on a mesh, by its path and shape."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from fourbeat.shard.meshes import described, trimmed, written
from fourbeat.shard.whole_arrays import LARGE_BYTES, warn_of_whole
from fourbeat.trees.globs import joined, matches, unmatched
from fourbeat.types import Object, State


class Rules(ABC):
    """Maps a parameter's path and shape to a `PartitionSpec`; a class of your own needs `spec` alone.

    The optimizer's state, averages and accumulators lie as their parameter does, and scalars on every
    device: no rule is asked for those.
    """

    @abstractmethod
    def spec(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        """How a parameter is split.

        Args:
          path: its keys joined by slashes, such as "blocks/0/attention/kernel".
          shape: of the parameter.
          mesh: to lie on.
        """

    def of(self, state: State) -> "Rules":
        """The rules for the model of a state: for those that ask more of it than paths and shapes."""
        return self

    def unused(self, paths: Sequence[str]) -> str | None:
        """Which part of these rules speaks of none of the parameters, in words; None where all do."""
        return None


class _Replicated(Rules):
    def spec(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        return PartitionSpec()

    def __repr__(self) -> str:
        return "replicated()"


def replicated() -> Rules:
    """Every parameter whole on every device: data parallelism.

    >>> import fourbeat as fb
    >>> tuple(replicated().spec("dense/kernel", (512, 512), fb.mesh(data=-1)))
    ()
    """
    return _Replicated()


class _Fsdp(Rules):
    def __init__(self, min_size: int, axis: str):
        self.min_size, self.axis = min_size, axis

    def spec(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        axis = self.axis
        if axis not in mesh.shape:
            raise ValueError(
                f"the rules split parameters over the axis {axis!r}, which the mesh of {described(mesh)} "
                f"does not have. Use fourbeat.mesh({axis}=...) or another rule."
            )
        parts = mesh.shape[axis]
        if parts == 1 or math.prod(shape) < self.min_size:
            return PartitionSpec()
        fitting = [i for i, length in enumerate(shape) if length % parts == 0 and length]
        if not fitting:
            _warn_of_indivisible(path, shape, axis, parts)
            return PartitionSpec()
        longest = max(fitting, key=lambda i: shape[i])  # the first of equals
        if _is_table(path) and 0 in fitting:
            longest = 0
        return trimmed([axis if i == longest else None for i in range(len(shape))])

    def __repr__(self) -> str:
        return f"fsdp(min_size={self.min_size:,}, axis={self.axis!r})"


def fsdp(min_size: int = 2**14, axis: str = "fsdp") -> Rules:
    """Each parameter split over the axis `fsdp` along its longest dimension that divides.

    Fully sharded data parallelism (Rajbhandari et al. 2020, "ZeRO", stage 3): XLA gathers a parameter where
    the step needs it, and leaves each device its share of the gradient.

    A parameter named `embedding`, as that of `nnx.Embed`, is split along its rows where these divide. What is
    looked up in a table that is split along its features comes out split so, and XLA then splits the layers
    after it by features as well, and sends activations to and fro. So make the number of rows a multiple of
    the axis, and give such a table of another name a rule by `by_path`.

    Args:
      min_size: a parameter of fewer numbers stays whole on every device, as gathering it would cost more
        time than it saves memory; so does one of which no dimension divides, which is said of a large one.
      axis: of the mesh.

    >>> from jax.sharding import AbstractMesh
    >>> tuple(fsdp(min_size=1).spec("dense/kernel", (3, 512), AbstractMesh((8,), ("fsdp",))))
    (None, 'fsdp')
    >>> tuple(fsdp(min_size=1).spec("token/embedding", (8, 512), AbstractMesh((8,), ("fsdp",))))
    ('fsdp',)
    >>> tuple(fsdp(min_size=1).spec("token/embedding", (9, 512), AbstractMesh((8,), ("fsdp",))))
    (None, 'fsdp')
    """
    if isinstance(min_size, bool) or not isinstance(min_size, int) or min_size < 0:
        raise ValueError(f"min_size is {min_size!r}; expected a count of numbers, at least 0.")
    return _Fsdp(min_size, axis)


def _warn_of_indivisible(path: str, shape: tuple[int, ...], axis: str, parts: int) -> None:
    if 4 * math.prod(shape) < LARGE_BYTES:
        return
    longest = max(shape)
    warn_of_whole(
        f"{path} of shape {shape} lies whole on every device, and so does what the optimizer keeps for it: "
        f"none of its lengths is a multiple of {parts}, the size of the axis {axis!r}. Make {longest} "
        f"{-(-longest // parts) * parts}, or give it a rule of its own by fourbeat.shard.by_path.",
        stacklevel=5,
    )


def checked_rules(given: Object) -> Rules:
    """The rules; `replicated()` for None.

    Raises:
      TypeError: they are no rules.
    """
    if given is None:
        return replicated()
    if not isinstance(given, Rules):
        raise TypeError(
            f"shard is {given!r:.80}; expected rules, such as fourbeat.shard.fsdp() or "
            'fourbeat.shard.by_path({"head/kernel": (None, "tensor")}).'
        )
    return given


def _is_table(path: str) -> bool:
    return path.rpartition("/")[2] == "embedding"


class _ByPath(Rules):
    def __init__(self, specs: Mapping[str, Any], otherwise: Rules):
        self.specs, self.otherwise = dict(specs), otherwise

    def spec(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        for pattern, spec in self.specs.items():
            if matches(pattern, path):
                return spec.spec(path, shape, mesh) if isinstance(spec, Rules) else trimmed(spec)
        return self.otherwise.spec(path, shape, mesh)

    def of(self, state: State) -> Rules:
        specs = {k: spec.of(state) if isinstance(spec, Rules) else spec for k, spec in self.specs.items()}
        return _ByPath(specs, self.otherwise.of(state))

    def unused(self, paths: Sequence[str]) -> str | None:
        said = unmatched(self.specs, paths, of="by_path", what="parameter")
        return said or self.otherwise.unused(paths)

    def __repr__(self) -> str:
        return f"by_path({self.specs!r}, otherwise={self.otherwise!r})"


def by_path(specs: Mapping[str, Any], *, otherwise: Rules | None = None) -> Rules:
    """Parameters split as their paths say; the first pattern that matches counts.

    Args:
      specs: patterns over the path, whose keys are joined by slashes, as in "blocks/*/kernel"; `*` stands
        for any part of a path. Each with a `PartitionSpec`, a tuple of an axis of the mesh (or several, or
        None) for each dimension, or rules.
      otherwise: rules for what no pattern matches; default `replicated()`.

    Raises:
      ValueError: when used, for a pattern that matches no parameter.

    >>> rules = by_path({"blocks/*/kernel": (None, "tensor")}, otherwise=replicated())
    >>> import fourbeat as fb
    >>> tuple(rules.spec("blocks/0/up/kernel", (8, 32), fb.mesh(data=-1)))
    (None, 'tensor')
    """
    for pattern, spec in specs.items():
        if not isinstance(spec, PartitionSpec | tuple | Rules):
            raise TypeError(
                f"the spec of {pattern!r} is {spec!r:.80}; expected a jax.sharding.PartitionSpec, a tuple "
                "such as (None, 'tensor'), or rules such as fourbeat.shard.fsdp()."
            )
    return _ByPath(specs, replicated() if otherwise is None else otherwise)


class _Metadata(Rules):
    def spec(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        raise ValueError("metadata() reads the model of a state: use it with beats.init(..., shard=).")

    def of(self, state: State) -> Rules:
        static = getattr(state, "static", None)
        if static is None or not static.is_module:
            raise TypeError(
                "metadata() reads what nnx.with_partitioning says, and this model is no NNX module. Use "
                "fourbeat.shard.by_path or fsdp."
            )
        specs = nnx.get_partition_spec(nnx.state(static.merge(state.params, state.rest)))
        found = {}
        for path, variable in nnx.to_flat_state(specs):
            spec = variable.get_value()
            found[joined(path)] = trimmed(spec) if isinstance(spec, PartitionSpec) else PartitionSpec()
        return _Found(found)

    def __repr__(self) -> str:
        return "metadata()"


class _Found(Rules):
    def __init__(self, specs: dict[str, PartitionSpec]):
        self.specs = specs

    def spec(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        return self.specs.get(path, PartitionSpec())

    def __repr__(self) -> str:
        return "metadata()"


def metadata() -> Rules:
    """Parameters split as the model itself says, by `nnx.with_partitioning`; the others lie on every device.

    >>> metadata()
    metadata()
    """
    return _Metadata()


def checked_spec(place: str, shape: tuple[int, ...], spec: PartitionSpec, mesh: Mesh) -> PartitionSpec:
    """The spec, if a parameter of this shape can be split so.

    Raises:
      ValueError: an axis is unknown or used twice, there are more entries than dimensions, or a dimension
        does not divide. The text names the parameter, the dimension, the axis and the sizes.
    """
    if not isinstance(spec, PartitionSpec | tuple):
        raise TypeError(
            f"the rules give {spec!r:.80} for {place}; expected a jax.sharding.PartitionSpec, such as P() "
            "for an array that is whole on every device."
        )
    if len(spec) > len(shape):
        raise ValueError(
            f"{place} of shape {shape} is to be split as {written(spec)}, which has {len(spec)} entries for "
            f"{len(shape)} dimension{'' if len(shape) == 1 else 's'}. Give at most one for each."
        )
    used: list[str] = []
    for dimension, entry in enumerate(spec):
        axes = () if entry is None else entry if isinstance(entry, tuple) else (entry,)
        for axis in axes:
            if axis not in mesh.shape:
                raise ValueError(
                    f"{place} is to be split over the axis {axis!r}, which the mesh of {described(mesh)} "
                    "does not have. Give the mesh such an axis, or the parameter another rule."
                )
            if axis in used:
                raise ValueError(
                    f"{place} is to be split twice over the axis {axis!r}, as {written(spec)} says."
                )
            used.append(axis)
        parts = math.prod(mesh.shape[axis] for axis in axes)
        if shape[dimension] % parts:
            raise ValueError(
                f"{place} of shape {shape} cannot be split: its dimension {dimension} of length "
                f"{shape[dimension]} is not a multiple of {parts}, the size of the axis "
                f"{' x '.join(map(repr, axes))}. Give it another rule, or make that length a multiple of "
                f"{parts}."
            )
    return trimmed(spec)
