"""A mix: several data sets in exact proportions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Never, TypeVar

import jax
import numpy as np

from fourbeat.data.batches import Batches
from fourbeat.data.collating import Lengths
from fourbeat.data.data_set import DataSet
from fourbeat.data.decoded import Decoded
from fourbeat.data.interleaving import Passes, checked_num_examples, interleaved, shared_out
from fourbeat.data.order import Order, Remainder, StepOrder, num_in_batches
from fourbeat.data.own_rows import OwnRows
from fourbeat.data.placement import place_resident
from fourbeat.data.stored import HostColumns, Stored, in_steps
from fourbeat.trees.articles import a_type

# a dict of Arrays is no Mapping[DataSet, float]: the type of a mapping's keys is invariant
D = TypeVar("D", bound=DataSet)


def mix(proportions: Mapping[D, float], *, num_examples: int | None = None) -> "Mix":
    """A data set in which others come in the given proportions.

    An epoch takes its share of each, exactly to within one example, and spreads them evenly, so that a batch
    has the proportions too, as nearly as whole numbers allow. Each data set is gone through again and again,
    in an order of its own that `shuffle` permutes anew in each pass, and the next epoch goes on where this
    one ended: nothing is lost, nor comes twice in a pass, whatever the proportions.

    A mix has the verbs `len`, `map` and `batches`. Slice and split its parts before you mix them. Functions
    are mapped over the mix, or every part has the same. Where all parts are `Arrays` it may be resident.

    Args:
      proportions: data set to a number above 0; relative to their sum.
      num_examples: of an epoch; by default as many as all parts have. `remainder="drop"` rounds it down to
        whole batches and loses nothing by it.

    Returns:
      The mix; its examples are numbered through, those of the first part first.

    Raises:
      TypeError: a part is no data set.
      ValueError: a proportion is not a finite number above 0, or the parts have unlike columns, of which one
        example each is read, or other mapped functions.

    >>> from fourbeat.data import Arrays
    >>> a, b = Arrays(x=[0, 1, 2]), Arrays(x=[10, 11, 12, 13, 14, 15, 16])
    >>> batches = mix({a: 0.6, b: 0.4}).batches(5)
    >>> [batches[step]["x"].tolist() for step in range(3)]
    [[0, 10, 1, 11, 2], [0, 12, 1, 13, 2], [0, 14, 1, 15, 2]]
    """
    if not isinstance(proportions, Mapping) or not proportions:
        raise TypeError(
            f"mix takes a dict of data sets to proportions, mix({{a: 0.7, b: 0.3}}), and was given "
            f"{type(proportions).__name__} {proportions!r:.80}."
        )
    for part, proportion in proportions.items():
        if not isinstance(part, DataSet):
            raise TypeError(f"cannot mix {a_type(part)}: expected Arrays, Examples or another mix.")
        if not (math.isfinite(proportion) and proportion > 0):
            raise ValueError(f"the proportion of {part!r} is {proportion}; expected a finite number above 0.")
    return Mix(list(proportions), [Fraction(each) for each in proportions.values()], num_examples)


class Mix(DataSet):
    """Data sets in proportions: made by `mix`."""

    def __init__(self, parts: Sequence[DataSet], proportions: Sequence[Fraction], num_examples: int | None):
        stored = [part._stored for part in parts]
        total = sum(proportions)
        super().__init__(
            _mixed(stored, MixOrder(stored, [each / total for each in proportions], num_examples))
        )
        self._transforms = parts[0]._transforms
        for part in parts:
            if part._transforms != self._transforms:
                raise ValueError(
                    f"cannot mix {part!r} with {parts[0]!r}: other functions are mapped over its batches, "
                    "and a batch of the mix holds examples of both. Map over the mix, mix({...}).map(fn), or "
                    "do it in decode=."
                )

    def batches(self, batch_size: int, *, order: Order | None = None, **options: Any) -> Batches:
        """See `DataSet.batches`; a mix has an order already."""
        if order is not None:
            raise ValueError(
                f"order={order!r} would leave the proportions of this mix out of account. Use it without."
            )
        return super().batches(batch_size, **options)

    def split(self, n: int | float, *, seed: int = 0) -> Never:
        """Refused: the parts are what is split."""
        raise _undivided("split", "a.split(...)")

    def __getitem__(self, index: slice | np.ndarray) -> Never:
        raise _undivided("index", "a[...]")

    def __repr__(self) -> str:
        return f"Mix({len(self)} examples of {self._stored.name})"


class MixOrder:
    """The order of a mix.

    Args:
      parts: what is mixed.
      proportions: which sum to 1.
      num_examples: of an epoch.
    """

    def __init__(self, parts: Sequence[Stored], proportions: Sequence[Fraction], num_examples: int | None):
        self._parts, self._proportions = parts, proportions
        in_all = sum(part.num_examples for part in parts)
        self._num_examples = checked_num_examples("mix(...)", num_examples, in_all)

    def of(
        self, num_examples: int, batch_size: int, *, shuffle: bool, seed: int, remainder: Remainder
    ) -> StepOrder:
        """See `Order.of`."""
        number = num_in_batches(self._num_examples, batch_size, remainder)
        passes, first = [], 0
        counts = shared_out(number, self._proportions)
        for place, (part, count) in enumerate(zip(self._parts, counts, strict=True)):
            if count == 0:
                share = float(self._proportions[place])
                raise ValueError(
                    f"an epoch of {number} examples has none of {part.name}, whose share is {share:.3g}. Use "
                    f"mix(..., num_examples={math.ceil(1 / share)}) or more."
                )
            # frozen for ever (NEP 19); parts of one length are permuted each in its own way
            own_seed = int(np.random.RandomState([seed, place]).randint(2**32, dtype=np.uint32))
            order = part.order.of(part.num_examples, 1, shuffle=shuffle, seed=own_seed, remainder="pad")
            passes.append(_passes(order, first))
            first += part.num_examples
        return interleaved(passes, self._proportions, number, batch_size, remainder)


class Mixed:
    """Examples of several `Stored`, numbered through, those of the first part first: see `Stored`."""

    def __init__(self, parts: Sequence[Stored], order: Order):
        self.is_of_one_shape = True
        self.lengths: Lengths = ()
        self._parts = parts
        self.order = order
        self.name = _names(parts)
        self.num_examples = sum(part.num_examples for part in parts)
        self.size_bytes = sum(part.size_bytes for part in parts)
        self._device: dict[str, jax.Array] | None = None
        self._device_over: dict[str, jax.Array] | None = None

    def gather(self, index: np.ndarray, *, size: int | None = None) -> HostColumns:
        """See `Stored.gather`."""
        places, pieces = [], []
        for part, mine, own in _apart(self._parts, index.reshape(-1)):
            places.append(mine)
            pieces.append(part.gather(own))
            _check_alike(self._parts[0], pieces[0], part, pieces[-1])
        back = np.argsort(np.concatenate(places))
        columns = {
            name: np.concatenate([piece.columns[name] for piece in pieces])[back]
            for name in pieces[0].columns
        }
        texts = {
            name: np.concatenate([(piece.texts or {})[name] for piece in pieces])[back]
            for name in pieces[0].texts or {}
        }
        return in_steps(columns, texts, index.shape, size)

    def resident(self) -> dict[str, jax.Array]:
        """See `Stored.resident`."""
        if self._device is None:
            self._device = place_resident(self.gather(np.arange(self.num_examples)).columns)
        return self._device

    def resident_over(self, rows: OwnRows) -> dict[str, jax.Array]:
        """See `Stored.resident_over`."""
        if self._device_over is None:
            self._device_over = rows.gathered(lambda index: self.gather(index).columns, self.num_examples)
        return self._device_over

    def select(self, index: slice | np.ndarray) -> Never:
        """See `Stored.select`: refused."""
        raise _undivided("index", "a[...]")


class MixedReader:
    """A `Reader` of the decoded examples of several data sets, which are collated together."""

    def __init__(self, parts: Sequence[Decoded], order: Order):
        self._parts, self._order = parts, order
        self.name = _names(parts)

    def __len__(self) -> int:
        return sum(part.num_examples for part in self._parts)

    def read(self, numbers: np.ndarray) -> list[Any]:
        """See `Reader.read`."""
        read: list[Any] = [None] * len(numbers)
        for part, mine, own in _apart(self._parts, numbers):
            for place, example in zip(mine, part.examples(own), strict=True):
                read[place] = example
        return read

    def place(self, number: int) -> str:
        """See `Reader.place`."""
        ((part, _, own),) = _apart(self._parts, np.asarray([number]))
        return part.place(int(own[0]))

    def order_of(self, numbers: np.ndarray | None) -> Order:
        """See `Reader.order_of`."""
        return self._order


S = TypeVar("S", bound=Stored)


def _apart(parts: Sequence[S], numbers: np.ndarray) -> Iterator[tuple[S, np.ndarray, np.ndarray]]:
    """Each part that has some of the examples; their places among these, and their numbers in the part."""
    ends = np.cumsum([part.num_examples for part in parts])
    part_of = np.searchsorted(ends, numbers, side="right")
    for i, part in enumerate(parts):
        mine = np.flatnonzero(part_of == i)
        if len(mine):
            yield part, mine, numbers[mine] - (ends[i] - part.num_examples)


def _mixed(parts: Sequence[Stored], order: Order) -> Stored:
    """The parts as one, once their columns are alike."""
    read = []
    for part in parts:
        if part.num_examples == 0:
            raise ValueError(f"cannot mix {part.name}: it has no examples.")
        read.append(part.gather(np.zeros(1, np.int32)))
        _check_alike(parts[0], read[0], part, read[-1])
    if all(part.is_of_one_shape for part in parts):
        return Mixed(parts, order)
    decoded = [part for part in parts if isinstance(part, Decoded)]
    if len(decoded) < len(parts) or any(part.collate is not decoded[0].collate for part in decoded):
        raise ValueError(
            f"cannot mix {_names(parts)}: some have a collate=, which is given the examples of a whole "
            "batch. Give all parts the same one: collate = fourbeat.data.pad_to(...), then "
            "Examples(..., collate=collate) for each."
        )
    return Decoded(MixedReader(decoded, order), None, decoded[0].collate)


def _check_alike(first: Stored, of_first: HostColumns, part: Stored, read: HostColumns) -> None:
    are_ragged = not (first.is_of_one_shape and part.is_of_one_shape)
    wanted, seen = _forms(of_first, are_ragged), _forms(read, are_ragged)
    for name in dict.fromkeys([*wanted, *seen]):
        if wanted.get(name) != seen.get(name):
            raise ValueError(
                f"cannot mix {first.name} with {part.name}: column {name!r} is "
                f"{wanted.get(name, 'not there')} in the one and {seen.get(name, 'not there')} in the other. "
                "All parts need the same columns, in the same types and shapes: convert them in decode=."
            )


def _forms(read: HostColumns, are_ragged: bool) -> dict[str, str]:
    forms = {
        name: str(column.dtype) if are_ragged else f"{column.dtype} {column.shape[1:]}"
        for name, column in read.columns.items()
    }
    return {**forms, **dict.fromkeys(read.texts or {}, "of strings")}


def _passes(order: StepOrder, first: int) -> Passes:
    return Passes(order.num_examples, lambda number: order.index(number)[:, 0] + np.int32(first))


def _names(parts: Sequence[Stored]) -> str:
    return " and ".join(part.name for part in parts)


def _undivided(verb: str, how: str) -> TypeError:
    return TypeError(
        f"cannot {verb} a mix: its examples come in proportions, and part of them would have others. Take "
        f"parts of what is mixed, {how}, and mix those."
    )
