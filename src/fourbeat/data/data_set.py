"""A data set: examples by number, and the functions to map over its batches."""

import operator
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import numpy as np

from fourbeat.data.batches import Batches, checked_seed
from fourbeat.data.order import Order
from fourbeat.data.reading_ahead import Workers
from fourbeat.data.stored import Stored
from fourbeat.data.transform import Transform, as_transform


class DataSet:
    """What `Arrays` and `Examples` have in common: length, slices, `split`, `map` and `batches`.

    A data set never changes: each of these gives a new one, which shares memory where it can.
    """

    def __init__(self, stored: Stored):
        self._stored = stored
        self._transforms: tuple[Transform, ...] = ()

    def split(self, n: int | float, *, seed: int = 0) -> tuple[Self, Self]:
        """Two parts, `(kept, held_out)`, that share no example; each keeps the order of this one.

        Args:
          n: how many examples to hold out, or a fraction of them between 0 and 1.
          seed: int from 0 to 2**32 - 1; which examples are held out depends on it alone.

        Raises:
          ValueError: a part would be empty.

        >>> from fourbeat.data import Arrays
        >>> kept, held_out = Arrays(x=range(10)).split(3, seed=0)
        >>> kept.columns["x"].tolist(), held_out.columns["x"].tolist()
        ([1, 2, 4, 5, 6, 8, 9], [0, 3, 7])
        """
        num_held_out = self._num_held_out(n)
        held_out = np.zeros(len(self), bool)
        # RandomState's stream is frozen for ever (NEP 19), so a split never changes.
        stream = np.random.RandomState([checked_seed(seed)])
        held_out[stream.permutation(len(self))[:num_held_out]] = True
        return self[~held_out], self[held_out]

    def map(self, function: Callable[..., Mapping[str, Any]]) -> Self:
        """These examples, with `function` applied to each batch inside the compiled step.

        Functions run in the order mapped. The key depends on the batches' seed, the global step
        and the place in that order, so a resumed run draws the same. A second parameter that has
        a default is an option, not a key.

        Args:
          function: `function(batch)`, or `function(batch, key)` where it has a second parameter or
            one named `key`; `batch` is a dict of arrays of leading dimension B, without `weight`.
            Returns a dict of the same kind. Pass the same function object (not a new lambda) to
            data whose batches should share a compiled step.

        Raises:
          TypeError: `function` cannot be called or hashed.

        >>> from fourbeat.data import Arrays
        >>> def halve(batch):
        ...     return {"x": batch["x"] / 2}
        >>> Arrays(x=[2.0, 4.0]).map(halve).batches(2)[0]["x"].tolist()
        [1.0, 2.0]
        """
        return self._with(self._stored, (*self._transforms, as_transform(function)))

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        remainder: Literal["pad", "drop"] = "pad",
        order: Order | None = None,
        resident: bool | Literal["auto"] = "auto",
        workers: int = 0,
        processes: int = 0,
        ahead: int | None = None,
    ) -> Batches:
        """Batches of these examples: `batches[step]` for any global step.

        Args:
          batch_size: examples a batch, at least 1.
          shuffle: permute anew each epoch, from seed and epoch.
          seed: int from 0 to 2**32 - 1, of the order and of mapped functions' keys.
          remainder: what becomes of the last `len(self) % batch_size` examples of an epoch. "pad"
            fills their batch up with real examples of weight 0, and gives every batch a `weight`;
            "drop" leaves them out (with `shuffle`, others each epoch).
          order: an order of another kind, such as `fourbeat.data.weighted(...)`; each says what `shuffle`
            means to it.
          resident: whether the columns live on the device and batches are gathered there. "auto": those
            of an `Arrays` that take at most 256 MiB. True reads all of them first.
          workers: threads that read batches ahead while the device computes. They begin with a loop (an
            evaluation, a prediction) and end with it, whatever ends it; order and bits do not depend on
            them. 0: a batch is read when it is asked for.
          processes: in place of threads, for a `decode` that is Python and holds the interpreter: processes
            of Grain (`pip install 'fourbeat[grain]'`) that start with a loop, which takes seconds, and end
            with it. They are given a copy of the source and of `decode`, and import the script anew: what it
            runs has to stand under `if __name__ == "__main__":`.
          ahead: how many batches are read ahead; by default two for each worker.

        Raises:
          ValueError: there are no examples, `batch_size` is below 1, no whole batch is there to
            keep with "drop", or another argument is not one of those above.

        >>> from fourbeat.data import Arrays
        >>> Arrays(x=range(10)).batches(4, shuffle=True)
        Batches(3 steps of 4, shuffle=True, seed=0, remainder='pad', resident)
        """
        return Batches(
            self._stored,
            self._transforms,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            remainder=remainder,
            order=order,
            resident=resident,
            workers=Workers.checked(workers, ahead, processes),
        )

    def __len__(self) -> int:
        return self._stored.num_examples

    def __getitem__(self, index: slice | np.ndarray) -> Self:
        if not isinstance(index, slice):
            index = np.asarray(index)
            if index.ndim != 1:
                raise TypeError(
                    f"cannot index {type(self).__name__} by an array of shape {index.shape}: give a slice, "
                    f"as in data[10:20], or a 1-d index array. {self._to_read_one}To iterate: "
                    "data.batches(batch_size)."
                )
        return self._with(self._stored.select(index), self._transforms)

    _to_read_one = ""

    def _with(self, stored: Stored, transforms: tuple[Transform, ...]) -> Self:
        made = object.__new__(type(self))
        made._stored = stored
        made._transforms = transforms
        return made

    def _num_held_out(self, n: int | float) -> int:
        if isinstance(n, float) and 0 < n < 1:
            count = round(n * len(self))
        else:
            count = operator.index(n) if not isinstance(n, float) else -1
        if not 0 < count < len(self):
            raise ValueError(
                f"cannot hold out {n} of {len(self)} examples: both parts need at least one. "
                f"Give a number from 1 to {len(self) - 1}, or a fraction between 0 and 1."
            )
        return count
