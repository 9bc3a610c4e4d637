"""One batch: a mapping of columns that is a pytree, gathered and transformed inside the step."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.typing import ArrayLike

from fourbeat.data.collating import Lengths
from fourbeat.data.transform import Transform, apply_transforms
from fourbeat.types import Batch as AnyBatch
from fourbeat.types import Object, Scalar


class Batch(Mapping[str, Any]):
    """Columns of B examples, as a mapping and as a pytree.

    A batch holds either its own columns, or whole columns that stay on the device together with
    the places of the examples to gather from them; the bits are the same. Gathering and transforms
    run where the batch is read: inside a compiled step, that is on the device.

    `batch["image"]` runs the transforms for that column alone; where several columns are needed,
    call `materialize` once. No transform sees the column `weight`: it is taken out before them and put back
    after.

    Attributes:
      columns: this batch's arrays of leading dimension B, or None. Gathered on the host they are NumPy
        arrays until a compiled call takes them. Those of a plain batch with strings may be nested.
      resident: whole columns on the device, leading dimension the number of examples, or None.
        Every batch shares them: do not donate a batch.
      index: int32 (B,), places in `resident`; None beside `columns`, and where the batch is all examples.
      padding_weight: float32 (B,), 1 for an example and 0 for padding; None where no batch of
        these is ever padded.
      step: int32 scalar, the global step; None where no transform wants a key. A stack of batches of
        all examples has it too: nothing else tells how many there are.
      transforms: what is applied, in order; static.
      seed: of the transforms' keys; static; 0 where no transform wants one.
      stacked: whether arrays of this batch (all but `resident`) have a leading axis of steps;
        static. `take` gives one of them.
      texts: columns of strings, which stay on the host: name to NumPy array of shape (B, ...), for the
        loop's body; None where there are none, and inside a compiled step.

    >>> from fourbeat.data import Arrays
    >>> batch = Arrays(x=[1, 2, 3]).batches(2)[0]
    >>> batch
    Batch(2 examples: x, weight)
    >>> batch["x"].tolist(), batch["weight"].tolist()
    ([1, 2], [1.0, 1.0])
    """

    __slots__ = (
        "columns",
        "index",
        "padding_weight",
        "resident",
        "seed",
        "stacked",
        "step",
        "texts",
        "transforms",
    )

    def __init__(
        self,
        columns: dict[str, Any] | None = None,
        resident: dict[str, Any] | None = None,
        index: Object = None,
        padding_weight: ArrayLike | None = None,
        step: Scalar = None,
        transforms: tuple[Transform, ...] = (),
        seed: int = 0,
        stacked: bool = False,
        texts: Mapping[str, np.ndarray] | None = None,
    ):
        self.columns = columns
        self.resident = resident
        self.index = index
        self.padding_weight = padding_weight
        self.step = step
        self.transforms = transforms
        self.seed = seed
        self.stacked = stacked
        self.texts = texts

    def materialize(self) -> dict[str, jax.Array]:
        """Gathers the examples and applies the transforms.

        Returns:
          A new dict of arrays of leading dimension B; `weight` is the data's own weight with 0
          for padding, float32 of shape (B,) or (B, ...), and is there in every batch or in none.

        Raises:
          ValueError: the batch is stacked.
        """
        if self.stacked:
            raise ValueError(
                "cannot read a stacked batch: it holds several steps. "
                "Take one of them first: batch.take(i)[...] or batch.take(i).materialize()."
            )
        columns = self._gathered()
        weight = _padded(columns.pop("weight", None), self.padding_weight)
        if self.transforms:
            columns = apply_transforms(self.transforms, columns, seed=self.seed, step=self.step)
        if weight is not None:
            columns["weight"] = weight
        return columns

    def unmapped(
        self,
    ) -> tuple[dict[str, Any], tuple[Transform, ...], Callable[[dict[str, Any]], dict[str, Any]]]:
        """The stored columns, the transforms, and the function that applies these to such columns.

        Returns:
          `(columns, transforms, mapped)`. `mapped(columns)` is what `materialize` gives, for columns with any
          number of examples. The weight of padding is in the column `weight`.
        """
        bare = Batch(self.columns, self.resident, self.index, self.padding_weight, stacked=self.stacked)

        def mapped(columns: dict[str, Any]) -> dict[str, Any]:
            return Batch(columns, step=self.step, transforms=self.transforms, seed=self.seed).materialize()

        return bare.materialize(), self.transforms, mapped

    def take(self, i: Scalar) -> "Batch":
        """The `i`-th batch of a stacked one; `i` may be traced.

        Args:
          i: int scalar, at least 0 and less than the number of steps stacked (else the nearest).

        Raises:
          ValueError: the batch is not stacked.
        """
        if not self.stacked:
            raise ValueError(
                f"cannot take({i!r}) from a batch of one step: it is not stacked. "
                "Stacked batches come from batches.stacked(step, num_steps, size)."
            )
        columns, index, padding_weight, step = jax.tree.map(
            lambda leaf: lax.dynamic_index_in_dim(leaf, i, keepdims=False),
            (self.columns, self.index, self.padding_weight, self.step),
        )
        texts = None if self.texts is None else {name: text[int(i)] for name, text in self.texts.items()}
        return Batch(
            columns, self.resident, index, padding_weight, step, self.transforms, self.seed, texts=texts
        )

    def __getitem__(self, name: str) -> jax.Array:
        columns = self.materialize()
        if name not in columns:
            raise KeyError(f"{name!r}: this batch has the columns {', '.join(columns)}")
        return columns[name]

    def __iter__(self) -> Iterator[str]:
        # A transform may add and drop columns, so only running it tells their names.
        return iter(self.materialize() if self.transforms else self._stored_names())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def num_examples(self) -> int:
        """Examples of one step's batch, padding counted in."""
        told_by = self.padding_weight if self.index is None else self.index
        return (self._shape() if told_by is None else np.shape(told_by))[self.stacked]

    # A mapping compares by value, which arrays do not; a batch equals itself only.
    __eq__ = object.__eq__

    def __repr__(self) -> str:
        shape = self._shape()
        num = shape[self.stacked] if len(shape) > self.stacked else "?"
        steps = f"{shape[0]} steps of " if self.stacked and shape else ""
        mapped = ", mapped" if self.transforms else ""
        return f"Batch({steps}{num} examples: {', '.join(self._stored_names())}{mapped})"

    def _shape(self) -> tuple[int, ...]:
        leaves = jax.tree.leaves((self.index, self.padding_weight, self.columns))
        if leaves:
            return tuple(getattr(leaves[0], "shape", ()))
        lengths = [tuple(getattr(column, "shape", ())[:1]) for column in (self.resident or {}).values()]
        return (*getattr(self.step, "shape", ()), *lengths[0]) if lengths else ()

    def _stored_names(self) -> list[str]:
        names = list((self.resident if self.columns is None else self.columns) or ())
        padded = self.padding_weight is not None and "weight" not in names
        return [*names, "weight"] if padded else names

    def _gathered(self) -> dict[str, jax.Array]:
        if self.resident is None:
            return {name: jax.tree.map(jnp.asarray, column) for name, column in (self.columns or {}).items()}
        if self.index is None:
            return {name: _own(column) for name, column in self.resident.items()}
        index = jnp.asarray(self.index)
        # The places come from our own permutation of the examples: no bound or sign needs a check.
        return {
            name: jnp.asarray(column).at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)
            for name, column in self.resident.items()
        }


def _own(column: Object) -> jax.Array:
    """The column inside a program; outside of one a copy, which may be donated."""
    return column if isinstance(column, Tracer) else jnp.copy(column)


def _padded(weight: jax.Array | None, padding_weight: ArrayLike | None) -> jax.Array | None:
    """The data's own weight, with 0 where an example is padding."""
    if padding_weight is None:
        return weight
    real = jnp.asarray(padding_weight)
    if weight is None:
        return real
    return jnp.where(real.reshape(real.shape + (1,) * (weight.ndim - 1)) > 0, weight, 0)


# Flattened by attribute in C++: 0.55 us a batch, on the path of every step.
jax.tree_util.register_dataclass(
    Batch,
    data_fields=["columns", "resident", "index", "padding_weight", "step"],
    meta_fields=["transforms", "seed", "stacked"],
)


class AnnouncedBatch(Batch):
    """A batch that tells which lengths its columns have in others; a class apart costs other batches nothing.

    Attributes:
      lengths: columns whose second axis has one of several lengths, and all that were announced; static.
    """

    __slots__ = ("lengths",)

    def __init__(self, lengths: Lengths, **fields: Any):
        super().__init__(**fields)
        self.lengths = lengths

    @classmethod
    def of(cls, batch: Batch, lengths: Lengths) -> "AnnouncedBatch":
        """The batch, with the lengths."""
        return cls(lengths, **{name: getattr(batch, name) for name in Batch.__slots__})

    def take(self, i: Scalar) -> "AnnouncedBatch":
        """See `Batch.take`."""
        return AnnouncedBatch.of(super().take(i), self.lengths)


jax.tree_util.register_dataclass(
    AnnouncedBatch,
    data_fields=["columns", "resident", "index", "padding_weight", "step"],
    meta_fields=["transforms", "seed", "stacked", "lengths"],
)


def columns_of(batch: AnyBatch) -> AnyBatch:
    """The columns of a `Batch`, gathered and mapped; any other batch as it is.

    >>> columns_of({"x": 1.0}), columns_of(Batch({"x": jnp.ones(2)}))["x"].shape
    ({'x': 1.0}, (2,))
    """
    return batch.materialize() if hasattr(batch, "materialize") else batch
