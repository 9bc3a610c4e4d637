"""Whether all processes have the same batches, or each its own part of them: nothing diverges in silence."""

from __future__ import annotations

import hashlib
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from fourbeat.data.own_batches import checked_batch
from fourbeat.data.own_rows import TOPIC
from fourbeat.distributed import gather, num_processes
from fourbeat.trees.example_counts import known_num_examples, listed
from fourbeat.types import Batch, Object

COMPARED_EVERY = 100
"""Of so many batches that are to be the same in every process, the first is compared."""


class UnevenPassWarning(UserWarning):
    """A pass over local batches ended in one process before it ended in others; these left batches out."""


def check_same(value: Object, what: str, repair: str) -> None:
    """Compares a value over the processes.

    Args:
      value: what `json` can write.
      what: how the error names it.
      repair: what the error says to do.

    Raises:
      ValueError: two processes have others; raised in all of them.
    """
    seen = gather(value, topic=TOPIC)
    for process, each in enumerate(seen):
        if each != seen[0]:
            raise ValueError(
                f"{what} differ between the processes: process 0 has {_shown(seen[0])}, and process "
                f"{process} has {_shown(each)}. {repair}"
            )


def digest(batch: Batch) -> str:
    """A hash of the arrays of a batch, by their bytes.

    >>> digest({"x": np.zeros(2)}) == digest({"x": np.zeros(2)}), digest({"x": np.ones(2)})[:4]
    (True, '...')
    """
    found = hashlib.blake2b(digest_size=8)
    for leaf in jax.tree.leaves(batch):
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            found.update(np.ascontiguousarray(leaf).view(np.uint8).data)
    return found.hexdigest()


class Agreement:
    """What the processes say to each other of the batches that each reads from an iterable.

    Each batch takes one exchange of a few bytes, in which no device takes part.

    Args:
      name: how errors name what is read.
      is_local: whether each process reads its own part; else all read the same.
      must_be_even: whether passes of unequal length are an error for local batches too: an evaluation would
        miss examples.
    """

    def __init__(self, name: str, *, is_local: bool, must_be_even: bool = False):
        self.is_local = is_local
        self.num_parts = num_processes() if is_local else 1
        self._name, self._must_be_even = name, must_be_even
        self._num_batches = 0
        self._is_warned = False

    def of_pass(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches of a pass, each once every process has one. The pass ends for all of them at once.

        Raises:
          ValueError: in every process, where their batches do not fit together, or where a pass ends in some
            of them that must not.
        """
        while True:
            batch = next(batches, None)
            if not self.all_have(None if batch is None else checked_batch(batch)):
                return
            yield batch

    def of_length(self, length: int | None) -> int | None:
        """The number of batches of a pass, from that in each process; None where one does not know it.

        Raises:
          ValueError: the passes must be of one length, and are not.
        """
        lengths = gather(length, topic=TOPIC)
        if None in lengths:
            return None
        if len(set(lengths)) > 1:
            ended = [process for process, each in enumerate(lengths) if each == min(lengths)]
            self._see_uneven(ended, min(lengths))
        return min(lengths)

    def all_have(self, batch: Batch | None) -> bool:
        """Whether every process has a batch, and these fit together.

        Raises:
          ValueError: as `of_pass`.
        """
        seen = gather(None if batch is None else self._said(batch), topic=TOPIC)
        ended = [process for process, said in enumerate(seen) if said is None]
        if ended:
            if len(ended) < len(seen):
                self._see_uneven(ended, self._num_batches)
            return False
        self._num_batches += 1
        first = seen[0]
        for process, said in enumerate(seen):
            if said[:2] != first[:2]:
                raise ValueError(
                    f"batch {self._num_batches} of {self._name} has another form in process {process} than "
                    f"in process 0: {said[1]}, where that has {first[1]}. Every process needs the same "
                    "columns, types and sizes: drop or pad a short last batch, fourbeat.data.padded(...)."
                )
            if said[2] != first[2]:
                raise ValueError(self._unlike(process))
        return True

    def _said(self, batch: Batch) -> list[Any]:
        leaves, structure = jax.tree.flatten(batch)
        form = f"{structure} {[(np.shape(leaf), str(getattr(leaf, 'dtype', type(leaf)))) for leaf in leaves]}"
        if self.is_local:
            num_own = known_num_examples(batch)
            compared = [leaf for leaf in leaves if np.shape(leaf)[:1] != (num_own,)]
        else:
            compared = [] if self._num_batches % COMPARED_EVERY else leaves
        return [zlib.crc32(form.encode()), listed(batch), digest(compared) if compared else None]

    def _unlike(self, process: int) -> str:
        number = self._num_batches
        if self.is_local:
            return (
                f"batch {number} of {self._name} has a column without rows that is not the same in process "
                f"{process} as in process 0. What belongs to all examples of a batch is one for all "
                "processes: give it one value an example, or the same value everywhere."
            )
        return (
            f"batch {number} of {self._name} is not the same in process {process} as in process 0, and "
            "global_batches takes the same batches in every process. Shuffle with the same seed everywhere. "
            "If each process reads examples of its own, use fourbeat.data.local_batches(...)."
        )

    def _see_uneven(self, ended: list[int], after: int) -> None:
        which = f"process{'' if len(ended) == 1 else 'es'} {', '.join(map(str, ended))}"
        text = f"the pass over {self._name} ended after {after} batches in {which}, and went on in others"
        if not self.is_local:
            raise ValueError(
                f"{text}; global_batches takes the same batches in every process. Give every process the "
                "same data; or, if each reads examples of its own, use fourbeat.data.local_batches(...)."
            )
        if self._must_be_even:
            raise ValueError(
                f"{text}: an evaluation would miss examples. Give every process as many batches, with "
                "examples of weight 0 in those that fill up; or evaluate by number, "
                "fourbeat.data.Examples(source).batches(...)."
            )
        if not self._is_warned:
            self._is_warned = True
            warnings.warn(
                f"{text}: what is left there is not read. Give every process as many batches.",
                UnevenPassWarning,
                stacklevel=2,
            )


def _shown(value: Object) -> str:
    return f"{value[0]}" if isinstance(value, list) else f"{value}"
