"""A data set that is read example by example, from wherever it lies."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fourbeat.data.data_set import DataSet
from fourbeat.data.decoded import Decoded
from fourbeat.data.readers import reader_of
from fourbeat.types import Object


class Examples(DataSet):
    """Examples of a source that is read by number: of anything with `len()` and `[i]`.

    It has the verbs of `Arrays`: length, slices, `split`, `map`, `batches`; and the same order for the same
    length and seed. Examples become a batch on the host, in the main thread or in the threads of
    `batches(workers=)`.
    Columns of strings stay there: `batch.texts`.

    Args:
      source: a list of dicts; a NumPy array, a memmap, or a view of windows of one; a torch `Dataset`; a
        Hugging Face `Dataset`, whose numbers keep their types; `tfds.data_source`; an ArrayRecord file's data
        source; a Grain `MapDataset`; any object with `len()` and `[i]`, or `__getitems__` for many at once.
      decode: `decode(example) -> dict` of arrays and numbers, run on the host, by several threads at once
        where there are workers. By default an example is such a dict already.
      collate: `collate(examples) -> dict` of arrays of leading dimension B, of a list of B dicts. By default
        each column is stacked, so it has one shape.

    Raises:
      TypeError: the source has no length or no `[i]`, or holds whole columns, or is batched already. A list
        of dicts whose arrays share a leading axis may be either: `decode=dict` says that they are examples.
      ExampleError: when read, where an example cannot be read or decoded.

    >>> import numpy as np
    >>> squares = [{"x": np.float32(i), "name": f"number {i}"} for i in range(5)]
    >>> data = Examples(squares, decode=lambda example: {**example, "y": example["x"] ** 2})
    >>> batch = data.batches(2)[1]
    >>> batch["y"].tolist(), batch.texts["name"].tolist()
    ([4.0, 9.0], ['number 2', 'number 3'])
    """

    def __init__(
        self,
        source: Object,
        decode: Callable[[Any], Mapping[str, Any]] | None = None,
        *,
        collate: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]] | None = None,
    ):
        super().__init__(
            Decoded(reader_of(source, is_decoded=decode is not None or collate is not None), decode, collate)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} of {self._stored.name})"

    @property
    def _decoded(self) -> Decoded:
        assert isinstance(self._stored, Decoded)
        return self._stored
