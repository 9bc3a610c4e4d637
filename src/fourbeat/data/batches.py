"""Batches by number: `batches[step]` is a pure function of seed and step."""

import copy
import zlib
from collections.abc import Iterator
from typing import Literal

import numpy as np

from fourbeat.data.agreeing import check_same
from fourbeat.data.batch import AnnouncedBatch, Batch
from fourbeat.data.collating import PadTo
from fourbeat.data.global_steps import GlobalSteps, checked_step
from fourbeat.data.order import CheckedSteps, Order, Remainder
from fourbeat.data.own_rows import OwnRows
from fourbeat.data.reading_ahead import AtOnce, ReadingAhead, Workers
from fourbeat.data.stored import (
    RESIDENT_LIMIT_BYTES,
    HostColumns,
    StepReader,
    Stored,
    first_change,
    stack_steps,
)
from fourbeat.data.transform import Transform, wants_key
from fourbeat.data.whole_numbers import whole_number
from fourbeat.types import Scalar


class Batches:
    """The batches of a data set, addressed by global step; made by its `batches` method.

    `len` is steps an epoch; `batches[step]` works for every step from 0 on, in any order, and
    iterating gives the first epoch. A resumed run needs its step, nothing else.

    Attributes:
      batch_size: examples in each batch, padding counted in.
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
        stored: Stored,
        transforms: tuple[Transform, ...],
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        remainder: Remainder,
        order: Order | None,
        resident: bool | Literal["auto"],
        workers: Workers,
    ):
        self.batch_size = whole_number("batch_size", batch_size)
        _check(stored.num_examples, self.batch_size, remainder, resident)
        self.shuffle = bool(shuffle)
        self.seed = checked_seed(seed)
        self.remainder = remainder
        size_bytes = stored.size_bytes
        self.resident = size_bytes <= RESIDENT_LIMIT_BYTES if resident == "auto" else bool(resident)
        chosen = stored.order if order is None else order
        if not callable(getattr(chosen, "of", None)):
            raise TypeError(
                f"order is {chosen!r:.80}, which has no method `of`. Use fourbeat.data.weighted(weights), "
                "balanced(labels) or by_length(lengths), or a fourbeat.data.Order of your own."
            )
        steps = chosen.of(
            stored.num_examples, self.batch_size, shuffle=self.shuffle, seed=self.seed, remainder=remainder
        )
        is_ours = order is None
        self._order = (
            steps if is_ours else CheckedSteps(steps, f"{order!r:.80}", stored.num_examples, self.batch_size)
        )
        self.dropped = self._order.dropped
        self.num_examples = self._order.num_examples
        self._num_steps = self._order.num_steps
        self._steps = GlobalSteps(self._order, self.batch_size)
        # A batch of all examples in their own order is the columns themselves: nothing to gather.
        self._is_whole = self.resident and self._order.is_in_turn and self.batch_size == stored.num_examples
        self._given_order = order
        self._stored = stored
        self._reader = StepReader(stored, self._order)
        self._transforms = transforms
        self._keyed = wants_key(transforms)
        # Static in a batch: where no key is drawn, batches of every seed share a compiled step.
        self._static_seed = self.seed if self._keyed else 0
        self._workers = workers
        self._own_rows: OwnRows | None = None

    def __len__(self) -> int:
        return self._num_steps

    def __getitem__(self, step: int) -> Batch:
        """The batch of global step `step`; its epoch is `step // len(self)`."""
        step = checked_step(step)
        if self.resident:
            return self.of_columns(step, None)
        return self.of_columns(step, self.agreed(self.read(step)))

    def over(self, rows: OwnRows) -> "Batches":
        """These batches for a step over several processes, of which each reads its own rows.

        `fourbeat.loop`, evaluators and predictors ask for it.

        Raises:
          ValueError: the processes have other batches than each other, such as of another seed.
        """
        alike = (
            f"{self!r} of {self._stored.num_examples} examples",
            zlib.crc32(self._order.index(0).tobytes()),
        )
        check_same(alike, "the batches", "Give every process the same data, seed, order and batch size.")
        over = copy.copy(self)
        over._own_rows = rows
        alone = self._stored.is_of_one_shape or self._padding_of_lengths is not None
        over._reader = StepReader(self._stored, self._order, rows.of(self.batch_size), alone)
        return over

    def agreed(self, read: HostColumns) -> HostColumns:
        """The columns of a step that was read, in the shape that they have in every process.

        Where `pad_to` pads, that is the longest that a process needs.
        """
        pad = self._padding_of_lengths
        if self._own_rows is None or pad is None or self._stored.is_of_one_shape:
            return read
        return HostColumns(pad.in_one_shape(read.columns), read.texts)

    @property
    def _padding_of_lengths(self) -> PadTo | None:
        collate = getattr(self._stored, "collate", None)
        return collate if isinstance(collate, PadTo) else None

    def read(self, step: int) -> HostColumns:
        """The columns of a step, read and stacked on the host; any thread may call it."""
        return self._reader(step)

    @property
    def step_reader(self) -> StepReader:
        """A function that reads as `read` does and holds no batches: it can be sent to another process."""
        return self._reader

    @property
    def name(self) -> str:
        """How warnings and errors name the data."""
        return self._stored.name

    def numbers_of(self, step: int) -> list[int]:
        """The numbers of the examples that a step holds, padding left out.

        >>> from fourbeat.data import Arrays
        >>> Arrays(x=range(10)).batches(4).numbers_of(2)
        [8, 9]
        """
        return self._steps.numbers(checked_step(step))

    def places(self) -> np.ndarray | None:
        """The place of each example in the first epoch; None where the examples come in turn.

        Raises:
          ValueError: an epoch gives some examples several times, or not at all.

        >>> from fourbeat.data import Arrays, by_length
        >>> Arrays(x=range(3)).batches(2, order=by_length([3, 9, 2], bounds=(4, 16))).places().tolist()
        [0, 2, 1]
        """
        if self._order.is_in_turn:
            return None
        visited = self._order.index(0)[np.arange(self.batch_size) < self._order.sizes(0)[:, None]]
        places = np.argsort(visited, kind="stable")
        if not np.array_equal(visited[places], np.arange(self._stored.num_examples)):
            raise ValueError(
                f"{self!r} gives some examples several times or not at all in an epoch. For one output an "
                "example use batches of another order."
            )
        return places

    def of_columns(self, step: int, read: HostColumns | None) -> Batch:
        """The batch of a step, of the columns that `read` gave; None where they are resident."""
        step_leaf = self._numbers(step, 1)[0] if self._keyed else None
        if self._is_whole:
            return self._batch(None, None, None, step_leaf)
        padding_weight = self._steps.padding_weight(step) if self._order.is_padded else None
        if read is None:
            return self._batch(None, self._steps.index(step), padding_weight, step_leaf)
        return self._batch(read, None, padding_weight, step_leaf)

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
          ValueError: `num_steps` is not from 1 to `size`, or the batches are not of one shape.
          IndexError: `step` is negative.

        >>> from fourbeat.data import Arrays
        >>> Arrays(x=range(10)).batches(5).stacked(0, num_steps=2, size=4).take(1)["x"].tolist()
        [5, 6, 7, 8, 9]
        """
        step = checked_step(step)
        if not 1 <= num_steps <= size:
            raise ValueError(
                f"cannot stack {num_steps} steps into a block of size {size}: "
                f"num_steps must be from 1 to {size}."
            )
        if self.resident:
            return self.stacked_columns(step, num_steps, size, None)
        if self.is_of_one_shape:
            index = self._steps.stacked_index(step, num_steps)
            own = self._reader.own
            read = self._stored.gather(index if own is None else index[:, own], size=size)
        else:  # a collate function is given the examples of one batch, never those of several
            read = stack_steps(self._read_alike(step, num_steps), size)
        return self.stacked_columns(step, num_steps, size, read)

    @property
    def is_read_at_once(self) -> bool:
        """Whether a batch is read when it is asked for, by no worker."""
        return self.resident or not self._workers.number

    @property
    def batch_bytes(self) -> float:
        """Bytes of the columns of a batch; infinite where that is not known before it is read."""
        return self._stored.size_bytes * self.batch_size / self._stored.num_examples

    @property
    def is_of_one_shape(self) -> bool:
        """Whether every batch is known to have the shapes of the first."""
        return self.resident or self._stored.is_of_one_shape

    def stacked_columns(self, step: int, num_steps: int, size: int, read: HostColumns | None) -> Batch:
        """The stacked batch of columns with a leading axis of `size`; None where they are resident."""
        if self._is_whole:
            return self._batch(None, None, None, self._numbers(step, num_steps, size), stacked=True)
        padding_weight = None
        if self._order.is_padded:
            padding_weight = self._steps.stacked_padding_weight(step, num_steps, size)
        step_leaf = self._numbers(step, num_steps, size) if self._keyed else None
        if read is not None:
            return self._batch(read, None, padding_weight, step_leaf, stacked=True)
        index = self._steps.stacked_index(step, num_steps)
        if num_steps < size:
            filler = np.zeros((size - num_steps, self.batch_size), np.int32)
            index = np.concatenate([index, filler])
        return self._batch(None, index, padding_weight, step_leaf, stacked=True)

    def reading(self, start: int = 0, end: int | None = None) -> AtOnce | ReadingAhead:
        """A context in which the batches from step `start` up to `end` are read ahead.

        The workers that `batches(workers=)` or `batches(processes=)` asked for read them.

        `fourbeat.loop`, evaluators and predictors open it; a loop of your own may:

        >>> from fourbeat.data import Arrays
        >>> batches = Arrays(x=range(6)).batches(2, resident=False, workers=1)
        >>> with batches.reading(start=1) as ahead:
        ...     ahead.batch(1)["x"].tolist()
        [2, 3]
        """
        if self.is_read_at_once:
            return AtOnce(self)
        return ReadingAhead(self, start, end, self._workers)

    def examples(self, step: int) -> int:
        """How many examples the global steps before `step` hold, padding not counted.

        >>> from fourbeat.data import Arrays
        >>> Arrays(x=range(10)).batches(4).examples(4)                  # 4 + 4 + 2 + 4
        14
        """
        return self._steps.examples_before(checked_step(step))

    def step_of(self, *, examples: int) -> int:
        """The first step by which at least so many examples have been seen: where `at(examples=)` falls.

        It is for a run that goes on with another batch size: its steps count other examples.

        Args:
          examples: seen since step 0, at least 0; `old_batches.examples(step)` counts them.

        Raises:
          ValueError: `examples` is negative.

        >>> from fourbeat.data import Arrays
        >>> data = Arrays(x=range(100))
        >>> data.batches(16).step_of(examples=data.batches(8).examples(26))     # after two epochs
        14
        """
        return self._steps.step_of(examples)

    def __iter__(self) -> Iterator[Batch]:
        with self.reading(0, self._num_steps) as ahead:
            for step in range(self._num_steps):
                yield ahead.batch(step)

    def __repr__(self) -> str:
        place = "resident" if self.resident else "on the host"
        order = "" if self._given_order is None else f"order={self._given_order!r}, "
        return (
            f"Batches({self._num_steps} steps of {self.batch_size}, {order}shuffle={self.shuffle}, "
            f"seed={self.seed}, remainder={self.remainder!r}, {place})"
        )

    def _batch(
        self,
        read: HostColumns | None,
        index: np.ndarray | None,
        padding_weight: np.ndarray | None,
        step: Scalar,
        stacked: bool = False,
    ) -> Batch:
        statics = self._transforms, self._static_seed, stacked
        if read is None:
            rows = self._own_rows
            resident = self._stored.resident() if rows is None else self._stored.resident_over(rows)
            return Batch(None, resident, index, padding_weight, step, *statics)
        # They stay on the host: a compiled call takes NumPy arrays for a tenth of what placing them costs.
        columns, rows = read.columns, self._own_rows
        if rows is not None:
            columns = rows.placed(columns, self.batch_size, num_leading=int(stacked))
        batch = Batch(columns, None, index, padding_weight, step, *statics, read.texts)
        return AnnouncedBatch.of(batch, self._stored.lengths) if self._stored.lengths else batch

    def _read_alike(self, step: int, num_steps: int) -> list[HostColumns]:
        read = [self.agreed(self.read(step + i)) for i in range(num_steps)]
        for i, columns in enumerate(read):
            if change := first_change(read[0], columns):
                raise ValueError(
                    f"cannot stack the batches of steps {step} to {step + num_steps - 1}: in that of step "
                    f"{step + i} {change}. The blocks of fourbeat.loop end where a shape changes; or pad all "
                    "batches to one length."
                )
        return read

    def _numbers(self, step: int, num_steps: int, size: int = 1) -> np.ndarray:
        """The numbers of the steps from `step` on, int32 of shape (size,): keys are made of them."""
        if self._keyed and step + num_steps > 2**31:
            raise IndexError(
                f"step {step + num_steps - 1} has no key for the mapped functions: steps are counted in "
                f"int32, as state.step is, from 0 to {2**31 - 1}."
            )
        first = min(step, 2**31 - 1)
        return np.minimum(np.arange(first, first + size), 2**31 - 1).astype(np.int32)


def checked_seed(seed: int) -> int:
    """`seed` as a Python int, which NumPy's frozen stream takes; any other seed raises."""
    seed = whole_number("seed", seed)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; expected an int from 0 to 2**32 - 1.")
    return seed


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
            f"{2**31 - 1}. Slice the data into several."
        )
