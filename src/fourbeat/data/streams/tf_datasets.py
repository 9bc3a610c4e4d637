"""tf.data: the state of an iterator is a checkpoint of TensorFlow's, its shuffle buffer included."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from fourbeat.data.streams.source import length_of
from fourbeat.types import Batch, Object


class OfTensorFlow:
    """A `tf.data.Dataset`.

    TensorFlow takes 10 ms to write a state, so only one batch in `state_every` gets one. A data set draws the
    order of a pass when it makes the iterator, so the iterators of earlier passes are made too, but not read.
    """

    is_single_pass = False
    state_every = 50
    batching: str | None = "dataset.batch(32)"

    def __init__(self, dataset: Object, kind: str, *, is_made_anew: bool):
        self.kind: str | None = kind
        self.steps_per_pass = length_of(dataset)
        self._dataset = dataset
        self._is_made_anew = is_made_anew
        self._num_made = 0
        self._pass: Any = None
        self._beginning: Any = None

    def open(self, number: int) -> None:
        """Does nothing: there is nothing to prepare."""

    def begin(self, number: int, state: Object) -> Iterator[Any]:
        first = 0 if self._is_made_anew else number
        if self._num_made > first + 1:
            raise ValueError(
                f"a tf.data.Dataset in pass {self._num_made - 1} cannot go back to pass {number}: it draws "
                "an order for each pass. Build the data set anew, or give Stream a function that does."
            )
        if self._num_made <= first:
            while self._num_made <= first:
                self._pass = iter(self._dataset)
                self._num_made += 1
            self._beginning = _saved(self._pass)
        elif state is None:
            state = self._beginning  # the pass began and gave no batch
        if state is not None:
            _load(self._pass, state)
        return map(in_numpy, self._pass)

    def state(self) -> Any:
        return _saved(self._pass)

    def end(self) -> None:
        """Keeps the iterator: a new one would have another order."""


def in_numpy(batch: Batch) -> Any:
    """A batch with NumPy arrays in place of TensorFlow's tensors, whose shapes are no tuples."""
    return jax.tree.map(lambda leaf: leaf.numpy() if hasattr(leaf, "numpy") else leaf, batch)


def _saved(iterator: Object) -> dict[str, bytes]:
    """The files of a checkpoint of an iterator."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="fourbeat-tf-data-") as folder:
        tf.train.Checkpoint(iterator=iterator).write(f"{folder}/iterator")
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _load(iterator: Object, files: dict[str, bytes]) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="fourbeat-tf-data-") as folder:
        for name, data in files.items():
            Path(folder, Path(name).name).write_bytes(data)
        tf.train.Checkpoint(iterator=iterator).read(f"{folder}/iterator").assert_consumed()
