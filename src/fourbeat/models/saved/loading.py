"""Loading a saved model: its weights and its prediction, without the code that made it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from fourbeat.models.errors import ModelFileError
from fourbeat.models.names import name_of
from fourbeat.models.saved.program import BATCH, leaves_of, name_of_function
from fourbeat.models.saved.signature import PROGRAM, WEIGHTS, Array, Signature
from fourbeat.models.tensor_files import read_tensors
from fourbeat.trees.articles import a_type
from fourbeat.types import Batch, Object, Tree


class LoadedModel:
    """A saved model that predicts. Made by `fb.models.load`.

    Attributes:
      signature: what goes in, what comes out, and how it was made.
      weights: the arrays by name, NumPy arrays that are views of the file.
    """

    def __init__(self, signature: Signature, weights: dict[str, np.ndarray], program: export.Exported):
        self.signature = signature
        self.weights = weights
        self._placed: dict[str, jax.Array] | None = None
        self._run = jax.jit(program.call)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes in their order; None where none were given."""
        return self.signature.classes

    def predict(self, batch: Batch) -> Tree:
        """The outputs for a batch of any size from 1 on; bit for bit those of the model that was saved.

        It compiles once for each number of examples.

        Args:
          batch: a dict of the columns that `signature.inputs` names; others are left aside. Or a batch of
            `data.batches(...)`: where the program holds the mapped functions, they are the batch's own too.

        Returns:
          JAX arrays as `predict` returned them, in the same dicts, lists and tuples.

        Raises:
          ValueError: a column is missing, or of another shape or dtype; the text names it.
          TypeError: this is no batch.
        """
        columns = self._columns_of(batch)
        if self._placed is None:  # copies: on CPU a view of the file could change with the file
            self._placed = {name: jnp.array(array) for name, array in self.weights.items()}
        return self._run(self._placed, columns)

    def _columns_of(self, batch: Batch) -> dict[str, Any]:
        given = self._unmapped(batch)
        by_name = {name_of(path): leaf for path, leaf in leaves_of(given).items()}
        columns, counts = {}, {}
        for name, wanted in self.signature.inputs.items():
            if name not in by_name:
                raise ValueError(
                    f"the batch has no column {name!r}: it has {', '.join(by_name) or 'none'}. The model "
                    f"takes {self._taken()}."
                )
            column = jnp.asarray(by_name[name])
            lengths = [length if length == BATCH else int(length) for length in wanted.shape]
            fits = len(lengths) == column.ndim and all(
                length in (BATCH, seen) for length, seen in zip(lengths, column.shape, strict=True)
            )
            if not fits or column.dtype.name != wanted.dtype:
                seen = Array(column.shape, column.dtype.name)
                raise ValueError(
                    f"the column {name!r} is {seen}, and the model takes {wanted}. Give it so, with as many "
                    "examples as you like."
                )
            counts |= {name: column.shape[0]} if lengths[:1] == [BATCH] else {}
            columns[name] = column
        if len(set(counts.values())) > 1 or 0 in counts.values():
            raise ValueError(
                f"the columns have {', '.join(f'{n} examples in {name!r}' for name, n in counts.items())}. "
                "Give all of them the same number, at least 1."
            )
        return columns

    def _unmapped(self, batch: Object) -> Mapping[str, Any]:
        unmapped = getattr(batch, "unmapped", None)
        if unmapped is None and not isinstance(batch, Mapping):
            raise TypeError(
                f"batch is {a_type(batch)}. Give a dict of columns, {self._taken()}, or one of "
                "data.batches(...)."
            )
        if unmapped is None:
            return batch
        columns, transforms, mapped = unmapped()
        own = tuple(name_of_function(each.function) for each in transforms)
        if not own or own == self.signature.preprocessing:
            return columns
        if not self.signature.preprocessing:
            return mapped(columns)
        raise ValueError(
            f"the batch maps {', '.join(own)}, and the program begins with "
            f"{', '.join(self.signature.preprocessing)}. Give the stored columns, or batches of data that is "
            "mapped as the example was."
        )

    def _taken(self) -> str:
        return ", ".join(f"{name!r} {each}" for name, each in self.signature.inputs.items())

    def __repr__(self) -> str:
        outputs = ", ".join(f"{name} {each}" for name, each in self.signature.outputs.items())
        return f"LoadedModel({self._taken()} -> {outputs})"


def load(path: str | os.PathLike[str]) -> LoadedModel:
    """Reads a model that `fb.models.save` wrote. Nothing is unpickled, and no code of the model is needed.

    Every file is compared with its sha256 first. The sha256 tells damage, and not who wrote a file: run
    programs of people whom you trust, because a program may take any time and memory.

    Args:
      path: of the folder.

    Raises:
      ModelFileError: there is no saved model, it is damaged, or a newer fourbeat wrote it; the text names the
        file.
      ValueError: the program was not lowered for the present platform.
    """
    folder = Path(path)
    signature = Signature.read(folder)
    signature.check_files(folder)
    if jax.default_backend() not in _backends(signature.platforms):
        raise ValueError(
            f"the program of {folder} is for {', '.join(signature.platforms)}, and JAX runs on "
            f"{jax.default_backend()}. Save it with platforms= that names this one too."
        )
    weights = read_tensors(folder / WEIGHTS)
    seen = {name: Array(array.shape, array.dtype.name) for name, array in weights.items()}
    if seen != signature.weights:
        raise ModelFileError(f"{folder / WEIGHTS} does not hold the arrays that the signature lists.")
    try:
        program = export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    except Exception as error:  # it fails in many ways
        raise ModelFileError(
            f"{folder / PROGRAM} cannot be read by JAX {jax.__version__}, and JAX "
            f"{signature.versions.get('jax')} wrote it: {error}. Save it anew, or take the JAX that wrote it."
        ) from None
    return LoadedModel(signature, weights, program)


def _backends(platforms: tuple[str, ...]) -> set[str]:
    return {"gpu" if platform in ("cuda", "rocm") else platform for platform in platforms}
