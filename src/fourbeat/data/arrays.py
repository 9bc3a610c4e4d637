"""A data set in memory: columns of equal length, and the functions to map over its batches."""

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from fourbeat.data.batches import Batches, checked_seed
from fourbeat.data.columns import Columns
from fourbeat.data.transform import Transform, as_transform


class Arrays:
    """Columns of equal length, whose index i is example i.

    Nothing about an `Arrays` changes: slicing, `split` and `map` give new ones that share memory
    where they can. Do not write to an array after handing it over. 64-bit columns become 32-bit
    ones unless JAX's 64-bit types are on. A column named `weight` (float32) weighs the examples
    in losses and metrics, each at least 0 and finite; padding multiplies it by 0.

    Args:
      **columns: arrays, or what `numpy.asarray` takes, of numbers; shape (n, ...).

    Raises:
      TypeError: a column is not of numbers.
      ValueError: there are no columns, their lengths differ, or a value does not fit its 32-bit type or
        is masked.

    >>> import numpy as np
    >>> data = Arrays(image=np.zeros((6, 28, 28), np.uint8), label=[0, 1, 2, 3, 4, 5])
    >>> data
    Arrays(6 examples: image uint8 (28, 28), label int32 ())
    >>> data[2:4].columns["label"].tolist()
    [2, 3]
    """

    def __init__(self, /, **columns: Any):
        self._columns = Columns(columns)
        self._transforms: tuple[Transform, ...] = ()

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """Name to stored array, both read-only; before any mapped function."""
        return MappingProxyType(self._columns.host)

    def split(self, n: int | float, *, seed: int = 0) -> tuple["Arrays", "Arrays"]:
        """Two parts, `(kept, held_out)`, that share no example; each keeps the order of this one.

        Args:
          n: how many examples to hold out, or a fraction of them between 0 and 1.
          seed: int from 0 to 2**32 - 1; which examples are held out depends on it alone.

        Raises:
          ValueError: a part would be empty.

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

    def map(self, function: Callable[..., Mapping[str, Any]]) -> "Arrays":
        """These columns, with `function` applied to each batch inside the compiled step.

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

        >>> def halve(batch):
        ...     return {"x": batch["x"] / 2}
        >>> Arrays(x=[2.0, 4.0]).map(halve).batches(2)[0]["x"].tolist()
        [1.0, 2.0]
        """
        return self._with(self._columns, (*self._transforms, as_transform(function)))

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        remainder: Literal["pad", "drop"] = "pad",
        resident: bool | Literal["auto"] = "auto",
    ) -> Batches:
        """Batches of these examples: `batches[step]` for any global step.

        Args:
          batch_size: examples a batch, at least 1.
          shuffle: permute anew each epoch, from seed and epoch.
          seed: int from 0 to 2**32 - 1, of the order and of mapped functions' keys.
          remainder: what becomes of the last `len(self) % batch_size` examples of an epoch. "pad"
            fills their batch up with real examples of weight 0, and gives every batch a `weight`;
            "drop" leaves them out (with `shuffle`, others each epoch).
          resident: whether the columns live on the device and batches are gathered there. "auto":
            where they take at most 256 MiB.

        Raises:
          ValueError: there are no examples, `batch_size` is below 1, no whole batch is there to
            keep with "drop", or another argument is not one of those above.

        >>> Arrays(x=range(10)).batches(4, shuffle=True)
        Batches(3 steps of 4, shuffle=True, seed=0, remainder='pad', resident)
        """
        return Batches(
            self._columns,
            self._transforms,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            remainder=remainder,
            resident=resident,
        )

    def __len__(self) -> int:
        return self._columns.num_examples

    def __getitem__(self, places: slice | np.ndarray) -> "Arrays":
        if not isinstance(places, slice):
            places = np.asarray(places)
            if places.ndim != 1:
                raise TypeError(
                    f"cannot index Arrays by an array of shape {places.shape}: give a slice, as in "
                    "data[10:20], or a 1-d index array. To read examples: data.columns['...'][i]; to "
                    "iterate: data.batches(batch_size)."
                )
        return self._with(self._columns.select(places), self._transforms)

    def __repr__(self) -> str:
        columns = ", ".join(
            f"{name} {column.dtype} {column.shape[1:]}" for name, column in self.columns.items()
        )
        return f"Arrays({len(self)} examples: {columns})"

    def _with(self, columns: Columns, transforms: tuple[Transform, ...]) -> "Arrays":
        made = object.__new__(Arrays)
        made._columns = columns
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
