"""A model taken apart: its leaves with their paths, its structure, and the way back."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fourbeat.trees.paths import Path
from fourbeat.types import Object


class ModelLeaf(NamedTuple):
    """One leaf of a model: where it is, its value, and what a `wrt` filter sees."""

    path: Path
    value: Object
    owner: Object  # the nnx.Variable that holds the value, or the value itself


@dataclass(frozen=True)
class Parts:
    """A model taken apart.

    Attributes:
      leaves: every array of the model, in a fixed order.
      identity: equal for models that differ only in the values of their leaves.
      describe: gives everything else as pairs of a path and a canonical form; made when asked for.
      rebuild: makes a new model from a value for each of `leaves`, in their order.
      values: everything else as it is, by path: "model.helper".
    """

    leaves: list[ModelLeaf]
    identity: Hashable
    describe: Callable[[], tuple[tuple[Path, Hashable], ...]]
    rebuild: Callable[[list], Any]
    values: Mapping[str, Any]
