"""Batches by number: `batches[step]` is a pure function of seed and step."""

import operator
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from fourbeat.data.batch import Batch
from fourbeat.data.columns import RESIDENT_LIMIT_BYTES, Columns
from fourbeat.data.order import EpochOrder
from fourbeat.data.placement import place
from fourbeat.data.transform import Transform, wants_key


class Batches:
    """The batches of an `Arrays`, addressed by global step; made by `Arrays.batches`.

    `len` is steps an epoch; `batches[step]` works for every step from 0 on, in any order, and
    iterating gives the first epoch. A resumed run needs its step, nothing else.

    Attributes:
      batch_size: examples in each batch.
      num_examples: examples that an epoch visits.
      dropped: examples that an epoch leaves out.
      shuffle: as given.
      seed: as given.
      remainder: as given.
      resident: whether batches are gathered on the device.

    >>> from fourbeat.data import Arrays
    >>> batches = Arrays(x=range(10)).batches(4, remainder="drop")
    >>> len(batches), batches.num_examples, batches.dropped
    (2, 8, 2)
    >>> batches[3]["x"].tolist()                    # the second step of the second epoch
    [4, 5, 6, 7]
    """

    def __init__(
        self,
        columns: Columns,
        transforms: tuple[Transform, ...],
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        remainder: Literal["pad", "drop"],
        resident: bool | Literal["auto"],
    ):
        self.batch_size = operator.index(batch_size)
        _check(columns.num_examples, self.batch_size, remainder, resident)
        self.shuffle = bool(shuffle)
        self.seed = checked_seed(seed)
        self.remainder = remainder
        self.resident = columns.size_bytes <= RESIDENT_LIMIT_BYTES if resident == "auto" else bool(resident)
        num_left = columns.num_examples % self.batch_size
        self.dropped = num_left if remainder == "drop" else 0
        self.num_examples = columns.num_examples - self.dropped
        self._num_steps = -(-self.num_examples // self.batch_size)
        # A batch of all examples in their own order is the columns themselves: nothing to gather.
        self._is_whole = self.resident and not self.shuffle and self.batch_size == columns.num_examples
        self._columns = columns
        self._transforms = transforms
        self._keyed = wants_key(transforms)
        num_visited = self._num_steps * self.batch_size
        self._order = EpochOrder(
            columns.num_examples, max(num_visited, columns.num_examples), shuffle=shuffle, seed=self.seed
        )
        # All ones, and the last of an epoch: shared by every batch.
        self._padding_weights: tuple[np.ndarray, np.ndarray] | None = None
        if num_visited > self.num_examples:
            full = np.ones(self.batch_size, np.float32)
            last = (np.arange(self.batch_size) < num_left).astype(np.float32)
            full.setflags(write=False)
            last.setflags(write=False)
            self._padding_weights = (full, last)

    def __len__(self) -> int:
        return self._num_steps

    def __getitem__(self, step: int) -> Batch:
        """The batch of global step `step`; its epoch is `step // len(self)`."""
        step = _checked_step(step)
        step_leaf = self._numbers(step, 1)[0] if self._keyed else None
        if self._is_whole:
            return self._batch(None, None, None, step_leaf)
        epoch, place = divmod(step, self._num_steps)
        start = place * self.batch_size
        index = self._order(epoch)[start : start + self.batch_size]
        padding_weight = None
        if self._padding_weights is not None:
            padding_weight = self._padding_weights[place == self._num_steps - 1]
        if self.resident:
            return self._batch(None, index, padding_weight, step_leaf)
        return self._batch(self._columns.gather(index), None, padding_weight, step_leaf)

    def stacked(self, step: int, num_steps: int, size: int) -> Batch:
        """The batches of `num_steps` global steps from `step` on, along a new leading axis.

        Args:
          step: the first global step, at least 0.
          num_steps: how many, from 1 to `size`.
          size: length of the new axis, so that blocks of every length have one shape; what lies
            beyond `num_steps` has weight 0 and is not to be read.

        Returns:
          A stacked `Batch`; `batch.take(i)` is `batches[step + i]`. Resident columns are not
          stacked.

        Raises:
          ValueError: `num_steps` is not from 1 to `size`.
          IndexError: `step` is negative.

        >>> from fourbeat.data import Arrays
        >>> Arrays(x=range(10)).batches(5).stacked(0, num_steps=2, size=4).take(1)["x"].tolist()
        [5, 6, 7, 8, 9]
        """
        step = _checked_step(step)
        if not 1 <= num_steps <= size:
            raise ValueError(
                f"cannot stack {num_steps} steps into a block of size {size}: "
                f"num_steps must be from 1 to {size}."
            )
        if self._is_whole:
            return self._batch(None, None, None, self._numbers(step, num_steps, size), stacked=True)
        index = self._stacked_places(step, num_steps)
        padding_weight = self._stacked_padding_weight(step, num_steps, size)
        step_leaf = self._numbers(step, num_steps, size) if self._keyed else None
        if not self.resident:
            columns = self._columns.gather(index, size=size)
            return self._batch(columns, None, padding_weight, step_leaf, stacked=True)
        if num_steps < size:
            filler = np.zeros((size - num_steps, self.batch_size), np.int32)
            index = np.concatenate([index, filler])
        return self._batch(None, index, padding_weight, step_leaf, stacked=True)

    def examples(self, step: int) -> int:
        """How many examples the global steps before `step` hold, padding not counted.

        >>> from fourbeat.data import Arrays
        >>> Arrays(x=range(10)).batches(4).examples(4)                  # 4 + 4 + 2 + 4
        14
        """
        step = _checked_step(step)
        epoch, place = divmod(step, self._num_steps)
        return epoch * self.num_examples + place * self.batch_size

    def step_of(self, *, examples: int) -> int:
        """The first step by which at least so many examples have been seen: where `at(examples=)` falls.

        For a run that goes on with another batch size, whose steps are other steps.

        Args:
          examples: seen since step 0, at least 0; `old_batches.examples(step)` counts them.

        Raises:
          ValueError: `examples` is negative.

        >>> from fourbeat.data import Arrays
        >>> data = Arrays(x=range(100))
        >>> data.batches(16).step_of(examples=data.batches(8).examples(26))     # after two epochs
        14
        """
        examples = operator.index(examples)
        if examples < 0:
            raise ValueError(f"examples is {examples}; expected a count of at least 0.")
        epochs, rest = divmod(examples, self.num_examples)
        return epochs * self._num_steps + -(-rest // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return (self[step] for step in range(self._num_steps))

    def __repr__(self) -> str:
        place = "resident" if self.resident else "on the host"
        return (
            f"Batches({self._num_steps} steps of {self.batch_size}, shuffle={self.shuffle}, "
            f"seed={self.seed}, remainder={self.remainder!r}, {place})"
        )

    def _batch(
        self,
        columns: dict[str, np.ndarray] | None,
        index: np.ndarray | None,
        padding_weight: np.ndarray | None,
        step: Any,
        stacked: bool = False,
    ) -> Batch:
        return Batch(
            # The columns are freshly gathered, so the device may alias them instead of copying.
            None if columns is None else place(columns),
            self._columns.resident() if columns is None else None,
            index,
            padding_weight,
            step,
            self._transforms,
            # Static: where no key is drawn, batches of every seed share a compiled step.
            self.seed if self._keyed else 0,
            stacked,
        )

    def _numbers(self, step: int, num_steps: int, size: int = 1) -> np.ndarray:
        """The numbers of the steps from `step` on, int32 of shape (size,): keys are made of them."""
        if self._keyed and step + num_steps > 2**31:
            raise IndexError(
                f"step {step + num_steps - 1} has no key for the mapped functions: steps are counted in "
                f"int32, as state.step is, from 0 to {2**31 - 1}."
            )
        first = min(step, 2**31 - 1)
        return np.minimum(np.arange(first, first + size), 2**31 - 1).astype(np.int32)

    def _stacked_places(self, step: int, num_steps: int) -> np.ndarray:
        """Places of the examples: int32 of shape (num_steps, batch_size), across epochs."""
        pieces = []
        end = step + num_steps
        while step < end:
            epoch, place = divmod(step, self._num_steps)
            count = min(end - step, self._num_steps - place)
            start, stop = place * self.batch_size, (place + count) * self.batch_size
            pieces.append(self._order(epoch)[start:stop].reshape(count, self.batch_size))
            step += count
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _stacked_padding_weight(self, step: int, num_steps: int, size: int) -> np.ndarray | None:
        if self._padding_weights is None:
            return None
        full, last = self._padding_weights
        weights = np.zeros((size, self.batch_size), np.float32)
        weights[:num_steps] = full
        first_last = (-step - 1) % self._num_steps
        weights[first_last : num_steps : self._num_steps] = last
        return weights


def checked_seed(seed: int) -> int:
    """`seed` as a Python int, once it is one that NumPy's frozen stream takes."""
    seed = operator.index(seed)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; expected an int from 0 to 2**32 - 1.")
    return seed


def _checked_step(step: int) -> int:
    step = operator.index(step)
    if step < 0:
        raise IndexError(f"step {step} is negative: global steps count from 0")
    return step


def _check(num_examples: int, batch_size: int, remainder: str, resident: bool | str) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; a batch needs at least 1 example.")
    if batch_size >= 2**31:
        raise ValueError(
            f"batch_size is {batch_size}; the examples of a batch are numbered in int32, so it has at most "
            f"{2**31 - 1}. All examples in one batch: batches({max(num_examples, 1)})."
        )
    if remainder not in ("pad", "drop"):
        raise ValueError(
            f"remainder is {remainder!r}; expected 'pad' (fill the short last batch with examples of "
            "weight 0) or 'drop' (leave its examples out)."
        )
    if resident not in (True, False, "auto"):
        raise ValueError(
            f"resident is {resident!r}; expected 'auto', True (columns live on the device) "
            "or False (batches are gathered on the host)."
        )
    if num_examples == 0:
        raise ValueError("cannot make batches of 0 examples: the columns are empty.")
    if num_examples >= 2**31:
        raise ValueError(
            f"cannot make batches of {num_examples} examples: they are numbered in int32, so at most "
            f"{2**31 - 1}. Slice the Arrays into several."
        )
    if remainder == "drop" and batch_size > num_examples:
        raise ValueError(
            f"batch_size {batch_size} is larger than the {num_examples} examples, so remainder='drop' "
            f"would leave no batch. Use batch_size <= {num_examples}, or remainder='pad'."
        )
