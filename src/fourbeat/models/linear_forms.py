"""Linear layers of Flax in one form: which dimensions of a kernel meet the inputs, and which are given."""

import math
import re
import string
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx


class Form(NamedTuple):
    """A layer as `inputs, kernel -> outputs`, in the letters of `jnp.einsum`.

    A kernel may have more dimensions in front: those of layers that are stacked for `nnx.scan`.

    Attributes:
      inputs: a letter for each dimension; "..." for those that a kernel does not meet.
      kernel: a letter for each dimension of one layer's kernel.
      outputs: a letter for each dimension, or "...".
    """

    inputs: str
    kernel: str
    outputs: str

    def num_features(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """How many numbers of an input a kernel of this shape meets, and how many it gives."""
        lengths = dict(zip(self.kernel, shape[-len(self.kernel) :], strict=True))
        sides = [letter in self.inputs for letter in self.kernel]
        met, given = (
            math.prod(
                lengths[letter] for letter, is_met in zip(self.kernel, sides, strict=True) if is_met is side
            )
            for side in (True, False)
        )
        return met, given

    def rows(self, inputs: jax.Array) -> jax.Array:
        """Inputs with the dimensions that the kernel meets as their last one."""
        letters = self._spelt(self.inputs, inputs.ndim)
        met = [letters.index(letter) for letter in self.kernel if letter in self.inputs]
        moved = jnp.moveaxis(inputs, met, range(-len(met), 0))
        return moved.reshape(*moved.shape[: inputs.ndim - len(met)], -1)

    def as_outputs(self, rows: jax.Array, inputs: jax.Array, kernel_shape: tuple[int, ...]) -> jax.Array:
        """Rows of outputs in the layer's own order of dimensions.

        Args:
          rows: a row for each of `self.rows(inputs)`.
          inputs: of the layer.
          kernel_shape: of its kernel.
        """
        lengths = dict(zip(self.kernel, kernel_shape[-len(self.kernel) :], strict=True))
        given = [letter for letter in self.kernel if letter not in self.inputs]
        unmet = [letter for letter in self._spelt(self.inputs, inputs.ndim) if letter not in self.kernel]
        outputs = rows.reshape(*rows.shape[:-1], *(lengths[letter] for letter in given))
        written = self._spelt(self.outputs, outputs.ndim)
        return outputs.transpose([(unmet + given).index(letter) for letter in written])

    def as_kernel(self, matrix: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """A matrix of inputs by outputs in the kernel's own order of dimensions.

        Args:
          matrix: (..., inputs, outputs).
          shape: of the kernel.
        """
        num_stacked = len(shape) - len(self.kernel)
        lengths = dict(zip(self.kernel, shape[num_stacked:], strict=True))
        order = sorted(self.kernel, key=lambda letter: letter not in self.inputs)  # those met come first
        split = matrix.reshape(*shape[:num_stacked], *(lengths[letter] for letter in order))
        back = [num_stacked + order.index(letter) for letter in self.kernel]
        return split.transpose(*range(num_stacked), *back)

    def _spelt(self, letters: str, num_dims: int) -> str:
        """The letters with one for each dimension that "..." stands for."""
        free = (letter for letter in string.ascii_uppercase if letter not in "".join(self))
        missing = num_dims - len(letters.replace("...", ""))
        return letters.replace("...", "".join(next(free) for _ in range(missing)))


def form_of(layer: Any, of_class: type) -> Form | None:
    """The form of a linear layer of this class; None where it has none, or a `__call__` of its own."""
    kind = next((kind for kind in _READERS if issubclass(of_class, kind)), None)
    return None if kind is None or of_class.__call__ is not kind.__call__ else _READERS[kind](layer)


def _of_linear(layer: nnx.Linear) -> Form:
    return Form("...i", "io", "...o")


def _of_linear_general(layer: nnx.LinearGeneral) -> Form | None:
    num_met, num_given = len(layer.axis), len(layer.out_features)
    letters = string.ascii_lowercase
    met, given = letters[:num_met], letters[num_met : num_met + num_given]
    if layer.batch_axis or sorted(layer.axis) != list(range(-num_met, 0)):
        return None
    return Form(f"...{met}", met + given, f"...{given}")  # Flax sorts the axes: their order means nothing


def _of_einsum(layer: nnx.Einsum) -> Form | None:
    if layer.einsum_str is None:
        return None
    inputs, kernel, outputs = re.split(",|->", layer.einsum_str.replace(" ", ""))
    is_one_kernel = all((letter in inputs) != (letter in outputs) for letter in kernel)
    gives_all = set(outputs) == set(inputs) ^ set(kernel)
    has_each_once = all(len(set(part)) == len(part) for part in (kernel, inputs.replace("...", "")))
    return Form(inputs, kernel, outputs) if is_one_kernel and gives_all and has_each_once else None


_READERS = {nnx.Linear: _of_linear, nnx.LinearGeneral: _of_linear_general, nnx.Einsum: _of_einsum}
