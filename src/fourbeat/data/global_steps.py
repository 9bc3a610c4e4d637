"""Global steps over the epochs of an order: which examples each one holds, and which of them are padding."""

import operator
from bisect import bisect_left
from collections.abc import Callable

import numpy as np

from fourbeat.data.order import StepOrder
from fourbeat.data.whole_numbers import whole_number


class GlobalSteps:
    """The steps of all epochs, numbered from 0 on.

    Args:
      order: which examples each step of an epoch holds.
      batch_size: examples of a step, padding counted in.
    """

    def __init__(self, order: StepOrder, batch_size: int):
        self._order = order
        self._batch_size = batch_size
        self._num_steps = order.num_steps
        # by how many examples a batch holds: shared by every batch
        self._padding_weights: dict[int, np.ndarray] = {}

    def index(self, step: int) -> np.ndarray:
        """The examples of a step, those of padding last: int32 of shape (batch_size,), read-only."""
        epoch, place = divmod(step, self._num_steps)
        return self._order.index(epoch)[place]

    def numbers(self, step: int) -> list[int]:
        """The examples of a step, padding left out."""
        epoch, place = divmod(step, self._num_steps)
        return self._order.index(epoch)[place, : self._order.sizes(epoch)[place]].tolist()

    def padding_weight(self, step: int) -> np.ndarray:
        """1 for each example of a step, 0 for padding: float32 of shape (batch_size,), read-only."""
        epoch, place = divmod(step, self._num_steps)
        size = int(self._order.sizes(epoch)[place])
        weight = self._padding_weights.get(size)
        if weight is None:
            weight = (np.arange(self._batch_size) < size).astype(np.float32)
            weight.setflags(write=False)
            self._padding_weights[size] = weight
        return weight

    def stacked_index(self, step: int, num_steps: int) -> np.ndarray:
        """Examples of the steps from `step` on: int32 of shape (num_steps, batch_size), across epochs."""
        return self._across_epochs(self._order.index, step, num_steps)

    def stacked_padding_weight(self, step: int, num_steps: int, size: int) -> np.ndarray:
        """The padding weights of the steps from `step` on: float32 of shape (size, batch_size), 0 beyond."""
        sizes = self._across_epochs(self._order.sizes, step, num_steps)
        weights = np.zeros((size, self._batch_size), np.float32)
        weights[:num_steps] = np.arange(self._batch_size) < sizes[:, None]
        return weights

    def examples_before(self, step: int) -> int:
        """How many examples the steps before `step` hold, padding not counted."""
        epoch, place = divmod(step, self._num_steps)
        return epoch * self._order.num_examples + self._order.examples_before(epoch, place)

    def step_of(self, examples: int) -> int:
        """The first step by which at least so many examples have been seen.

        Raises:
          ValueError: `examples` is negative.
        """
        examples = whole_number("examples", examples)
        if examples < 0:
            raise ValueError(f"examples is {examples}; expected a count of at least 0.")
        epoch, rest = divmod(examples, self._order.num_examples)
        seen = lambda place: self._order.examples_before(epoch, place)
        return epoch * self._num_steps + bisect_left(range(self._num_steps), rest, key=seen)

    def _across_epochs(self, of_epoch: Callable[[int], np.ndarray], step: int, num_steps: int) -> np.ndarray:
        pieces = []
        end = step + num_steps
        while step < end:
            epoch, place = divmod(step, self._num_steps)
            count = min(end - step, self._num_steps - place)
            pieces.append(of_epoch(epoch)[place : place + count])
            step += count
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def checked_step(step: int) -> int:
    """`step` as a Python int; a negative one raises an IndexError."""
    step = operator.index(step)
    if step < 0:
        raise IndexError(f"step {step} is negative: global steps count from 0")
    return step
