"""What a step of a GPT takes on each device of a mesh, as formulas; `docs/scale.md` explains them.

Letters as there: w width, l layers, h heads, s context, v characters; d, f, t devices along the axes data,
fsdp and tensor; T tokens of a step in each share of the rows; b bytes of a number in the computation.
"""

import dataclasses
from collections.abc import Mapping

from fourbeat.recipes.char_gpt import NUM_TOKENS

STATE_BYTES = 12  # of a parameter: itself and the two moments of Adam, float32


@dataclasses.dataclass(frozen=True)
class Size:
    """The sizes of a GPT."""

    layers: int
    width: int
    heads: int
    context: int = 2048

    @property
    def in_blocks(self) -> int:
        """Parameters of the linear layers in blocks: 12 w² l."""
        return 12 * self.width**2 * self.layers

    @property
    def beside_blocks(self) -> int:
        """Parameters of the table of positions and of the head, which are split over fsdp alone."""
        return (self.context + NUM_TOKENS) * self.width

    @property
    def whole(self) -> int:
        """Parameters that lie on every device: the table of characters, and norms."""
        return (NUM_TOKENS + 2 * self.layers + 1) * self.width

    @property
    def params(self) -> int:
        """All parameters."""
        return self.in_blocks + self.beside_blocks + self.whole


@dataclasses.dataclass(frozen=True)
class Formulas:
    """Bytes and operations of a step on each device.

    Attributes:
      size: of the model.
      axes: devices by the names of the axes: data, fsdp, tensor.
      tokens: T.
      num_bytes: b, of a number that the layers compute with.
    """

    size: Size
    axes: Mapping[str, int]
    tokens: int
    num_bytes: int = 4

    @property
    def _dft(self) -> tuple[int, int, int]:
        return self.axes.get("data", 1), self.axes.get("fsdp", 1), self.axes.get("tensor", 1)

    @property
    def used(self) -> float:
        """Parameters that a device computes with."""
        _, _, t = self._dft
        return self.size.in_blocks / t + self.size.beside_blocks

    @property
    def state(self) -> float:
        """Bytes of parameters and moments."""
        _, f, _ = self._dft
        return STATE_BYTES * (self.used / f + self.size.whole)

    @property
    def batch(self) -> float:
        """Bytes of a batch: a byte for each character and one more a window, and a float32 weight."""
        return 5 * self.tokens + self.tokens / self.size.context

    @property
    def activations(self) -> float:
        """Bytes of what the forward pass keeps for the backward pass."""
        _, _, t = self._dft
        size = self.size
        of_a_token = (2 * size.heads * size.context + 12 * size.width) / t + 8 * size.width
        return self.num_bytes * self.tokens * size.layers * of_a_token

    @property
    def gathers(self) -> int:
        """How often XLA gathers a parameter in a step at most: once, and kept, or once in each pass."""
        _, _, t = self._dft
        return 2 if t > 1 else 1

    @property
    def temporaries(self) -> float:
        """Bytes at the larger of two peaks: the backward pass with gathered parameters, and the update."""
        _, f, _ = self._dft
        if f > 1:
            return self.activations + self.num_bytes * self.used
        return max(self.activations, STATE_BYTES * (self.used + self.size.whole))

    @property
    def gathered(self) -> float:
        """Bytes that come in with gathered parameters."""
        _, f, _ = self._dft
        return self.gathers * self.num_bytes * self.used * (f - 1) / f

    @property
    def reduced(self) -> float:
        """Bytes that come in with all-reduces: of gradients over the shares of the rows, of activations."""
        d, f, _ = self._dft
        shares = d * f
        of_gradients = 2 * self.num_bytes * (self.used + self.size.whole) * (shares - 1) / shares
        return of_gradients + self.of_tensor

    @property
    def scattered(self) -> float:
        """As `reduced`, but gradients are reduced and scattered over fsdp, and only shares go over data."""
        d, f, _ = self._dft
        over_fsdp = self.num_bytes * self.used * (f - 1) / f
        return over_fsdp + 2 * self.num_bytes * self.used / f * (d - 1) / d + self.of_tensor

    @property
    def of_tensor(self) -> float:
        """Bytes that come in with the four all-reduces of activations in a block."""
        _, _, t = self._dft
        return 4 * self.size.layers * 2 * self.num_bytes * self.tokens * self.size.width * (t - 1) / t

    @property
    def flops(self) -> float:
        """Floating-point operations: 6 of a token and parameter, and those of attention."""
        _, _, t = self._dft
        size = self.size
        multiplied = size.in_blocks + NUM_TOKENS * size.width
        of_attention = 12 * size.layers * size.context * size.width
        return self.tokens * (6 * multiplied + of_attention) / t
