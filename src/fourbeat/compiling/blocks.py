"""Blocks: K stacked batches that one compiled call steps through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Never, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from fourbeat.data.batch import Batch, columns_of
from fourbeat.types import Batch as AnyBatch
from fourbeat.types import Object, Scalar


@runtime_checkable
class StackedBatches(Protocol):
    """Batches in another stacked form, such as one that gathers its examples on the device."""

    def take(self, index: Scalar, /) -> AnyBatch:
        """The batch at `index`, which may be traced."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Block:
    """Up to `size` batches in one value, for a step that runs them all in one call.

    A block is known by its type: an array with one dimension more is never taken for one.

    Attributes:
      batch: the batches stacked, each leaf of shape (size, ...); or an object with a
        `take(index)` method.
      num_steps: int32 scalar, how many of the batches are valid, counted from the first. It is
        data, not structure: one compiled program serves every number of valid steps.

    >>> block = Block.stack([{"x": np.zeros((4, 2))}, {"x": np.ones((4, 2))}], size=3)
    >>> block.size, int(block.num_steps), block.batch["x"].shape
    (3, 2, (3, 4, 2))
    >>> float(block.take(1)["x"].mean())
    1.0
    """

    batch: AnyBatch
    num_steps: Scalar

    @classmethod
    def stack(cls, batches: Sequence[Any], size: int | None = None) -> Block:
        """Stack batches along a new leading axis.

        Args:
          batches: at least one batch, each a pytree of arrays; all of one structure, with the
            same shapes and dtypes. Leaves that are all NumPy are stacked on the host; a
            `jax.Array` among them makes the stack a `jax.Array`. Each `Batch` of `fourbeat.data` is
            materialized first.
          size: the length of the new axis; default `len(batches)`. Copies of the last batch fill
            the free places; `num_steps` does not count them.

        Returns:
          A block with `num_steps == len(batches)`.

        Raises:
          ValueError: there is no batch, or `size` is too small for them, or two of them differ in form.
        """
        batches = [columns_of(batch) for batch in batches]
        size = len(batches) if size is None else size
        if not batches or size < len(batches):
            raise ValueError(
                f"cannot stack {len(batches)} batches into a block of size {size}: a block holds "
                "at least 1 batch and at most `size` of them."
            )
        for index, batch in enumerate(batches):
            _check_alike(batches[0], batch, index)
        filled = batches + [batches[-1]] * (size - len(batches))
        stacked = jax.tree.map(lambda *leaves: _stack_leaves(leaves), *filled)
        return cls(batch=stacked, num_steps=np.asarray(len(batches), dtype=np.int32))

    @property
    def size(self) -> int:
        """How many batches fit into the block. It is static: the length of the leading axis."""
        batch = self.batch
        # Columns that stay on the device are whole: their leading axis counts examples, not steps.
        leaves = jax.tree.leaves(
            (batch.columns, batch.index, batch.step) if isinstance(batch, Batch) else batch
        )
        return int(np.shape(leaves[0])[0]) if leaves else 0  # without columns any number of batches fits

    def take(self, index: Scalar) -> AnyBatch:
        """The batch at `index`, an integer or a traced int32 scalar in [0, size)."""
        if isinstance(self.batch, StackedBatches) and not isinstance(self.batch, np.ndarray | jax.Array):
            return self.batch.take(index)
        return jax.tree.map(
            lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, axis=0, keepdims=False),
            self.batch,
        )

    def materialize(self) -> Never:
        """Raises an error: a block is no batch, but a step without `fourbeat.compile` would read it as one.

        Raises:
          TypeError: always; the text says what to write instead.
        """
        if self.size == 0:
            raise TypeError(
                "this tick has no step: its num_steps is 0. It finishes the evaluation in which the run was "
                "stopped. A step of fb.compile gives the state back as it is; call any other step under an "
                "if: if tick.num_steps: state, logs = step(state, tick.batch)."
            )
        raise TypeError(
            f"this batch is a Block of up to {self.size} steps, as steps_per_call asks for. A step of "
            "fb.compile runs them all; with any other step leave steps_per_call at 1."
        )

    def __getitem__(self, name: str) -> Never:
        self.materialize()


NO_STEPS = Block(batch={}, num_steps=np.zeros((), np.int32))
"""The batch of a tick of no step: a compiled step gives the state back as it is, and no logs."""


def batch_signature(batch: AnyBatch) -> tuple[Any, tuple[Any, ...]]:
    """Structure, shapes and dtypes of a batch: equal for batches that can be stacked."""
    leaves, structure = jax.tree.flatten(batch)
    return structure, tuple((np.shape(leaf), _dtype_of(leaf)) for leaf in leaves)


def _stack_leaves(leaves: tuple[Any, ...]) -> Any:
    if any(isinstance(leaf, jax.Array) for leaf in leaves):
        return jnp.stack(leaves)
    return np.stack(leaves)


def _check_alike(first: Object, other: Object, index: int) -> None:
    if batch_signature(first) == batch_signature(other):
        return
    expected, seen = _described_leaves(first), _described_leaves(other)
    for path in dict.fromkeys([*expected, *seen]):
        if expected.get(path) != seen.get(path):
            raise ValueError(
                f"cannot stack batches into a block: batch[{index}]{path} is "
                f"{seen.get(path, 'not there')} and batch[0]{path} is "
                f"{expected.get(path, 'not there')}. The batches of a block have the same columns, "
                "shapes and dtypes: put the odd one into a block of its own."
            )
    raise ValueError(
        f"cannot stack batches into a block: batch[{index}] has the structure "
        f"{jax.tree.structure(other)} and batch[0] has {jax.tree.structure(first)}. Build every "
        "batch in the same way."
    )


def _described_leaves(batch: AnyBatch) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    return {jax.tree_util.keystr(path): f"{_dtype_of(leaf)}{list(np.shape(leaf))}" for path, leaf in leaves}


def _dtype_of(leaf: Object) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
