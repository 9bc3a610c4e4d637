"""Rows: inside a compiled step, each device computes its share of the examples."""

import contextlib
import functools
import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fourbeat.data.batch import columns_of
from fourbeat.shard.meshes import (
    SEQUENCE,
    check_context,
    described,
    is_of_processes,
    num_row_shares,
    row_axes,
    rows_spec,
    splits_batches,
)
from fourbeat.trees.example_counts import common_num_examples, known_num_examples, listed
from fourbeat.trees.jaxprs import equations
from fourbeat.types import Batch as AnyBatch
from fourbeat.types import Object, Rest, State, StepFunction, Tree


class WholeBatchWarning(UserWarning):
    """Devices compute the same: a batch, or most of it, is not split, or an axis of the mesh has no use."""


def split_rows(batch: AnyBatch, mesh: Mesh) -> Any:
    """Inside a compiled step: the columns of a batch, gathered and mapped, each device with its rows.

    Raises:
      ValueError: the rows do not divide; the text names the neighbouring sizes.
    """
    columns = columns_of(batch)
    num_rows = _num_rows(columns, mesh)
    if num_rows is None:
        return columns
    check_divides(num_rows, mesh)
    return constrained_rows(columns, num_rows, mesh)


def trained_in_shares(step: StepFunction, mesh: Mesh) -> StepFunction:
    """A training step with the rows of its batch, the first argument after the state, split.

    Args:
      step: `(state, batch, ..., **inputs) -> (state, out)`.
      mesh: with `Auto` axes.
    """

    def split(state: State, /, *args: Any, **inputs: Any) -> tuple[Any, Any]:
        with _tracing(mesh):
            return step(state, *((split_rows(args[0], mesh), *args[1:]) if args else args), **inputs)

    return split


_in_trace: ContextVar[Mesh | None] = ContextVar("the mesh of the step that is being traced", default=None)
_whole_over: ContextVar[tuple[str, ...]] = ContextVar("see axes_of_whole_states", default=())


@contextlib.contextmanager
def _tracing(mesh: Mesh) -> Iterator[None]:
    token = _in_trace.set(mesh)
    try:
        yield
    finally:
        _in_trace.reset(token)


def mesh_in_trace() -> Mesh | None:
    """The mesh of the step that is being traced; None where there is none."""
    return _in_trace.get()


def of_state_laid_out(step: Callable, shardings: Tree, mesh: Mesh) -> Callable:
    """The same function; while it is traced it is known how its state lies.

    Args:
      step: `(state, ...) -> (state, out)`.
      shardings: of the leaves of the state.
      mesh: with `Auto` axes.
    """
    split = axes_in(sharding.spec for sharding in jax.tree.leaves(shardings))
    axes = [axis for axis in row_axes(mesh) if mesh.shape[axis] > 1]
    whole = tuple(itertools.takewhile(lambda axis: axis not in split, axes))  # so that a share is consecutive

    @functools.wraps(step)
    def told(*args: Any) -> Any:
        token = _whole_over.set(whole)
        try:
            return step(*args)
        finally:
            _whole_over.reset(token)

    return told


def axes_of_whole_states() -> tuple[str, ...]:
    """Axes over which rows are split and no array of the state is, of the step that is being traced."""
    return _whole_over.get()


def constrained_rows(columns: AnyBatch, num_rows: int, mesh: Mesh | None, *, num_leading: int = 0) -> Any:
    """The columns of a batch with their rows split over a mesh; as they are without one.

    Args:
      columns: of a batch.
      num_rows: a column with so many has rows; others stay as they are.
      mesh: with `Auto` axes.
      num_leading: axes before that of the rows.
    """
    if mesh is None or not splits_batches(mesh) or num_rows % num_row_shares(mesh):
        return columns

    def constrained(leaf: Object) -> Any:
        shape = np.shape(leaf)
        if shape[num_leading : num_leading + 1] != (num_rows,):
            return leaf
        sharding = NamedSharding(mesh, rows_spec(mesh, shape, num_leading=num_leading))
        return jax.lax.with_sharding_constraint(jnp.asarray(leaf), sharding)

    return jax.tree.map(constrained, columns)


def evaluated_in_shares(step: Callable[..., tuple[Any, Any]], mesh: Mesh) -> Callable[..., tuple[Any, Any]]:
    """A step of an evaluation, with the rows of its batch split; rows that do not divide are padded.

    Args:
      step: `(state, rest, batch, ...) -> (rest, totals)`; the totals come out on every device.
      mesh: with `Auto` axes.
    """

    def split(state: State, rest: Rest, batch: AnyBatch, *args: Any) -> tuple[Any, Any]:
        columns, _ = _split_padded(batch, mesh)
        with _tracing(mesh):
            rest, totals = step(state, rest, columns, *args)
        return rest, _whole_on_every_device(totals, mesh)

    return split


def _whole_on_every_device(tree: Tree, mesh: Mesh) -> Any:
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, whole), tree)


def predicted_in_shares(step: Callable[..., tuple[Any, Any]], mesh: Mesh) -> Callable[..., tuple[Any, Any]]:
    """A step of a prediction, with the rows of its batch split; the outputs have no more than there were.

    Args:
      step: `(state, rest, batch) -> (rest, outputs)`.
      mesh: with `Auto` axes.
    """

    def split(state: State, rest: Rest, batch: AnyBatch) -> tuple[Any, Any]:
        columns, num_rows = _split_padded(batch, mesh)
        with _tracing(mesh):
            rest, outputs = step(state, rest, columns)
        if is_of_processes(mesh):  # each of them gives the outputs to its own user
            outputs = _whole_on_every_device(outputs, mesh)
        return rest, outputs if num_rows is None else jax.tree.map(lambda leaf: leaf[:num_rows], outputs)

    return split


def _split_padded(batch: AnyBatch, mesh: Mesh) -> tuple[Any, int | None]:
    """As `split_rows`, filled up where the rows do not divide; and then the number of rows before.

    They are filled up with the last row, of weight 0.
    """
    columns = columns_of(batch)
    num_rows = _num_rows(columns, mesh)
    if num_rows is None:
        return columns, None
    missing = -num_rows % num_row_shares(mesh)
    if not missing:
        return constrained_rows(columns, num_rows, mesh), None
    if not isinstance(columns, Mapping):  # it has no place for a weight
        check_divides(num_rows, mesh)

    def longer(leaf: Object) -> Any:
        leaf = jnp.asarray(leaf)
        return (
            jnp.concatenate([leaf, jnp.repeat(leaf[-1:], missing, axis=0)])
            if _has_rows(leaf, num_rows)
            else leaf
        )

    padded = {name: jax.tree.map(longer, column) for name, column in columns.items()}
    weight = jnp.asarray(columns.get("weight", np.float32(1)))
    weight = longer(jnp.broadcast_to(weight, (num_rows,)) if weight.ndim == 0 else weight)
    real = (jnp.arange(num_rows + missing) < num_rows).reshape(-1, *[1] * (weight.ndim - 1))
    padded["weight"] = jnp.where(real, weight, 0)
    return constrained_rows(padded, num_rows + missing, mesh), num_rows


def check_divides(num_rows: int, mesh: Mesh) -> None:
    """Raises if the rows of a batch cannot be split evenly."""
    shares = num_row_shares(mesh)
    if num_rows % shares == 0:
        return
    below, above = num_rows // shares * shares, -(-num_rows // shares) * shares
    near = f"{below} or {above}" if below else str(above)
    raise ValueError(
        f"the batch has {num_rows} examples, which do not divide over the {shares} shares of the mesh "
        f"({described(mesh)}; rows are split over {' and '.join(row_axes(mesh))}). Use a batch size of "
        f"{near}, and remainder='drop' or 'pad' for a short last batch. Rows that fill it up would count in "
        "batch statistics."
    )


def num_rows_to_split(columns: AnyBatch, mesh: Mesh) -> int | None:
    """The number of rows of a batch, as its columns or its weight tell it; None where nothing does.

    Beside two columns or more with as many rows, another array is one that all rows share, such as a table;
    without a weight such a number is taken only where it divides.
    """
    num_rows = known_num_examples(columns)
    if num_rows is not None:
        return num_rows
    lengths = [np.shape(leaf)[0] for leaf in jax.tree.leaves(columns) if np.ndim(leaf)]
    (found, times), *others = Counter(lengths).most_common() or [(0, 0)]
    is_told = times > 1 and len(others) == 1 and others[0][1] == 1 and found % num_row_shares(mesh) == 0
    return found if is_told and found else None


def _num_rows(columns: AnyBatch, mesh: Mesh) -> int | None:
    """The number of rows to split; None where there is nothing to split, which is said."""
    if not splits_batches(mesh) or not jax.tree.leaves(columns):
        return None
    num_rows = num_rows_to_split(columns, mesh)
    if num_rows is None:
        warnings.warn(
            f"nothing tells the rows of the batch ({listed(columns)}), so it is not split, and every "
            f"device of the mesh ({described(mesh)}) computes the whole of it. Give all columns one leading "
            "axis, or add a column 'weight' of one value an example.",
            WholeBatchWarning,
            stacklevel=2,
        )
        return None
    check_context()
    if not _most_has_rows(columns, num_rows):
        warnings.warn(
            f"the weight tells of {num_rows} examples, and most of the batch has no such rows "
            f"({listed(columns)}), so every device of the mesh ({described(mesh)}) computes the whole of it. "
            "Put the examples into arrays of one leading axis, such as padded graphs that are stacked.",
            WholeBatchWarning,
            stacklevel=2,
        )
        return None
    if mesh.shape.get(SEQUENCE, 1) > 1 and not _has_sequences(columns, mesh):
        warnings.warn(
            f"no column of the batch ({listed(columns)}) has a second axis that is a multiple of "
            f"{mesh.shape[SEQUENCE]}, so the devices along the axis {SEQUENCE!r} of the mesh "
            f"({described(mesh)}) compute the same. Pad the columns to such a length, or use a mesh without "
            "that axis.",
            WholeBatchWarning,
            stacklevel=2,
        )
    return num_rows


def idle_axes(specs: Iterable[PartitionSpec], mesh: Mesh) -> list[str]:
    """The axes of the mesh over which neither the rows of a batch nor any array of a state is split.

    Args:
      specs: of the leaves of the state.
      mesh: with `Auto` axes.
    """
    used = {SEQUENCE, *row_axes(mesh), *axes_in(specs)}
    return [str(axis) for axis, size in mesh.shape.items() if size > 1 and axis not in used]


def axes_in(specs: Iterable[PartitionSpec]) -> set[str]:
    """The axes of a mesh that specs name.

    >>> sorted(axes_in([PartitionSpec(("data", "fsdp"), None), PartitionSpec("tensor")]))
    ['data', 'fsdp', 'tensor']
    """
    entries = [entry for spec in specs for entry in spec]
    named = [axis for entry in entries for axis in (entry if isinstance(entry, tuple) else (entry,))]
    return {axis for axis in named if isinstance(axis, str)}


def axes_of_program(program: core.ClosedJaxpr) -> set[str]:
    """The axes of a mesh over which a traced program itself splits arrays, or runs for each device."""
    found: set[str] = set()
    for equation in equations(program.jaxpr):
        found |= set(map(str, equation.params.get("newly_manual_axes", ())))  # of a shard_map
        shardings = [each for each in jax.tree.leaves(equation.params) if isinstance(each, NamedSharding)]
        found |= axes_in(sharding.spec for sharding in shardings)
    return found


def warn_of_idle_axes(axes: Iterable[str], mesh: Mesh) -> None:
    """Warns of axes of the mesh over which nothing is split."""
    for axis in axes:
        rows = " and ".join(row_axes(mesh)) or "no axis"
        warnings.warn(
            f"the {mesh.shape[axis]} devices along the axis {axis!r} of the mesh ({described(mesh)}) compute "
            f"the same: rows of a batch are split over {rows}, and no array of the state over {axis!r}. Name "
            "the axis data or fsdp, for rows, or split parameters over it, beats.init(..., "
            "shard=fourbeat.shard.by_path({...})).",
            WholeBatchWarning,
            stacklevel=5,
        )


def _most_has_rows(columns: AnyBatch, num_rows: int) -> bool:
    """Whether most of a batch has the rows that are known: else its weight alone may tell them.

    One array without rows, such as a table that all rows share, may be as large as it likes.
    """
    if common_num_examples(columns) is not None:
        return True
    named = columns.items() if isinstance(columns, Mapping) else [("", columns)]
    leaves = jax.tree.leaves({name: column for name, column in named if name != "weight"})
    sizes = [(np.size(leaf), _has_rows(leaf, num_rows)) for leaf in leaves if np.ndim(leaf)]
    with_rows = [size for size, has_rows in sizes if has_rows]
    is_one_shared = len(with_rows) == len(sizes) - 1 and bool(with_rows)
    return is_one_shared or 2 * sum(with_rows) >= sum(size for size, _ in sizes)


def _has_sequences(columns: AnyBatch, mesh: Mesh) -> bool:
    return any(len(rows_spec(mesh, np.shape(leaf))) > 1 for leaf in jax.tree.leaves(columns))


def _has_rows(leaf: Object, num_rows: int) -> bool:
    return np.ndim(leaf) > 0 and np.shape(leaf)[0] == num_rows
