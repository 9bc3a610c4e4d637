"""A watch that names the leaf whose change made a step compile again."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from fourbeat.compiling.blocks import Block
from fourbeat.compiling.static_changes import first_change
from fourbeat.data.batch import AnnouncedBatch, Batch
from fourbeat.shard.laying_out import where
from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import Object


class RecompilationWarning(UserWarning):
    """A step compiles again because its arguments changed."""


class RecompilationError(ValueError):
    """A step would compile again because its arguments changed; nothing has run."""


class RecompilationWatch:
    """Sees the arguments of a step each time it is traced, which costs a compiled call nothing.

    Args:
      name: the step's name, for the text.
      on_recompile: "warn", "raise" or "ignore".
    """

    def __init__(self, name: str, on_recompile: str):
        if on_recompile not in ("warn", "raise", "ignore"):
            raise ValueError(f"on_recompile is {on_recompile!r}. Use 'warn', 'raise' or 'ignore'.")
        self._name = name
        self._on_recompile = on_recompile
        self._seen: dict[Any, dict[str, Any]] = {}  # by kind of call: the leaves of its last trace
        self._places: dict[Any, dict[str, str]] = {}  # by kind of call: where they last lay
        self._is_explained = True  # whether the change of a form is why the last trace was made
        self.num_traces = 0
        self.num_untraced = 0  # programs that XLA compiled of a trace that was there

    def see(self, args: tuple, inputs: Mapping[str, Any]) -> None:
        """Compares the leaves of a call that is being traced with those of the last call of its kind."""
        self.num_traces += 1
        kind = _kind(args)
        forms = jax.tree.map(_form, (args, inputs), is_leaf=lambda node: isinstance(node, Batch))
        leaves = dict(_named_leaves(*forms))
        statics = {"structure": jax.tree.structure((*args, *(inputs[name] for name in sorted(inputs))))}
        before = self._seen.get(kind)
        if before is not None and self._on_recompile != "ignore":
            names = ["state", *(name for name, _ in argument_names(args[1:], dict(sorted(inputs.items()))))]
            changes = _changes(before, {**leaves, **statics}, names)
            if changes:
                self._tell(changes)
            self._is_explained = bool(changes)
        self._seen[kind] = {**leaves, **statics}

    def compiled(self, args: tuple, inputs: Mapping[str, Any], num_traces: int) -> None:
        """Tells of a program that was compiled because an array lies elsewhere than in the calls before.

        Args:
          args: of the call that has just ended; its donated arrays still tell where they lay.
          inputs: of that call, by name.
          num_traces: of the watch before the call.
        """
        is_new = self.num_traces > num_traces
        self.num_untraced += not is_new
        is_explained, self._is_explained = self._is_explained and is_new, True
        kind, places = _kind(args), _places(args, inputs)
        before, self._places[kind] = self._places.get(kind), places
        if before is None or is_explained or self._on_recompile == "ignore":
            return
        moved = [
            f"{name} lay {before[name]} and now lies {place}"
            for name, place in places.items()
            if not _serves(before.get(name, place), place)
        ]
        if moved:
            alike = " Give all batches as NumPy arrays, or all of them placed in one way."
            alike = alike if any(_ON_THE_HOST in each for each in moved) else ""
            warnings.warn(
                f"{self._name} compiles again for arrays of the same form: {_listed(moved)}. Leave each "
                "array in its place: fourbeat.compile(step, mesh=mesh) sees to that."
                f"{alike} Or pass on_recompile='ignore'.",
                RecompilationWarning,
                stacklevel=3,
            )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Inside this context new programs give no warning: they are compiled on purpose."""
        on_recompile, self._on_recompile = self._on_recompile, "ignore"
        try:
            yield
        finally:
            self._on_recompile = on_recompile

    def _tell(self, changes: list[str]) -> None:
        text = f"{self._name} compiles again: {_listed(changes)}. "
        if self._on_recompile == "raise":
            raise RecompilationError(text + "Nothing has run. Give every call arguments of one form.")
        repair = "Give every call arguments of one form (pad short batches), or pass on_recompile='ignore'."
        warnings.warn(text + repair, RecompilationWarning, stacklevel=4)


def _listed(changes: list[str]) -> str:
    return "; ".join(changes[:5]) + (f"; and {len(changes) - 5} more" if len(changes) > 5 else "")


def _kind(args: tuple) -> tuple[int, ...]:
    return tuple(arg.size for arg in args if isinstance(arg, Block))


def _places(args: tuple, inputs: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: _place(leaf)
        for name, leaf in _named_leaves(args, inputs)
        if isinstance(leaf, jax.Array | np.ndarray | np.generic)
    }


_ON_THE_HOST, _BY_JAX = "on the host", ", where JAX put it"


def _place(leaf: jax.Array | np.ndarray | np.generic) -> str:
    if not isinstance(leaf, jax.Array):
        return _ON_THE_HOST
    return where(leaf) + ("" if leaf.committed else _BY_JAX)


def _serves(before: str, place: str) -> bool:
    """Whether a program for an array in the first place takes one in the second."""
    by_jax = [_ON_THE_HOST in each or _BY_JAX in each for each in (before, place)]
    return before == place or all(by_jax)


def _named_leaves(args: tuple, inputs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    named = [("state", args[0]), *argument_names(args[1:], inputs)]
    return [pair for name, arg in named for pair in leaves_with_paths(arg, name)]


def argument_names(args: tuple, inputs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The arguments of a step beside its state, with the names that errors give them."""
    names = ["batch"] if len(args) == 1 else [f"args[{i}]" for i in range(1, len(args) + 1)]
    return [*zip(names, args, strict=True), *inputs.items()]


def _form(node: Object) -> Any:
    """The description of a leaf or a batch. In a batch one announced length stands for all of them."""
    if not isinstance(node, Batch):
        return _described(node)
    described, columns = jax.tree.map(_described, node), node.columns or {}
    for name, lengths in node.lengths if isinstance(node, AnnouncedBatch) else ():
        described.columns[name] = _described(columns[name], 1 + node.stacked, lengths)
    return described


def _described(leaf: Object, axis: int = 0, lengths: tuple[int, ...] = ()) -> str:
    aval = jax.typeof(leaf)
    shape = [str(length) for length in aval.shape]
    if lengths and aval.shape[axis] in lengths:
        shape[axis] = "|".join(map(str, lengths))
    return f"{aval.dtype}[{', '.join(shape)}]" + (" (weakly typed)" if aval.weak_type else "")


def _changes(before: dict, after: dict, arguments: list[str]) -> list[str]:
    changes = [f"{name} appeared" for name in after if name not in before]
    changes += [f"{name} is gone" for name in before if name not in after]
    changes += [
        f"{name} changed from {before[name]} to {after[name]}"
        for name in after
        if name != "structure" and name in before and before[name] != after[name]
    ]
    if not changes and before["structure"] != after["structure"]:
        changes.append(
            "the static structure changed: "
            f"{first_change(before['structure'], after['structure'], arguments)}"
        )
    return changes
