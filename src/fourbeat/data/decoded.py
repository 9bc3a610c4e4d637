"""Examples that are read by number, decoded and put side by side on the host."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from fourbeat.data.collating import Collate, announced_lengths
from fourbeat.data.columns import checked_column
from fourbeat.data.order import Order
from fourbeat.data.own_memory import column_written_again, make_own
from fourbeat.data.own_rows import OwnRows
from fourbeat.data.placement import place_resident
from fourbeat.data.readers import Reader, ReadExamples
from fourbeat.data.stacking import Example, UnlikeError, columns_of, stacked
from fourbeat.data.stored import HostColumns, in_steps
from fourbeat.data.texts import text_of
from fourbeat.trees.articles import a_type
from fourbeat.types import Object

Decode: TypeAlias = Callable[[Any], Example]


class ExampleError(RuntimeError):
    """An example cannot be read, decoded or put beside the others.

    Attributes:
      source: how errors name the source.
      number: of the example in the source; None where it is not one alone.
    """

    def __init__(self, message: str, *, source: str, number: int | None):
        super().__init__(message)
        self.source = source
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _example_error, (str(self), self.source, self.number)


def _example_error(message: str, source: str, number: int | None) -> ExampleError:
    """One that comes from another process."""
    return ExampleError(message, source=source, number=number)


class Decoded:
    """Examples of a reader, see `Stored`.

    Args:
      reader: of the source.
      decode: example to dict; None where an example is one.
      collate: dicts to columns; None where columns are stacked.
      numbers: int64 (n,), which examples of the source these are; None for all.
    """

    def __init__(
        self,
        reader: Reader,
        decode: Decode | None,
        collate: Collate | None,
        numbers: np.ndarray | None = None,
    ):
        self.name = reader.name
        self.num_examples = len(reader) if numbers is None else len(numbers)
        self.size_bytes = float("inf")
        self.is_of_one_shape = collate is None
        self.lengths = announced_lengths(collate)
        self.order: Order = reader.order_of(numbers)
        self.reader = reader
        self._decode, self.collate, self._numbers = decode, collate, numbers
        self._is_memory_checked = False
        self._dtypes: dict[str, np.dtype] | None = None
        self._device: dict[str, jax.Array] | None = None
        self._device_over: dict[str, jax.Array] | None = None

    def gather(self, index: np.ndarray, *, size: int | None = None) -> HostColumns:
        """See `Stored.gather`."""
        columns, texts = self._columns(self._numbers_of(index.reshape(-1)))
        self._check_alike(columns)
        return in_steps(columns, texts, index.shape, size)

    def examples(self, index: np.ndarray) -> Sequence[Example]:
        """Examples `index`, int of shape (n,), decoded."""
        numbers = self._numbers_of(index)
        return self._decoded(_listed(self._read(numbers), len(numbers)), numbers)

    def place(self, number: int) -> str:
        """How errors name one of the examples."""
        return self.reader.place(int(self._numbers_of(np.asarray(number))))

    def resident(self) -> dict[str, jax.Array]:
        """See `Stored.resident`: reads all examples."""
        if self._device is None:
            self._device = place_resident(self.gather(np.arange(self.num_examples)).columns)
        return self._device

    def resident_over(self, rows: OwnRows) -> dict[str, jax.Array]:
        """See `Stored.resident_over`."""
        if self._device_over is None:
            self._device_over = rows.gathered(lambda index: self.gather(index).columns, self.num_examples)
        return self._device_over

    def select(self, index: slice | np.ndarray) -> "Decoded":
        """See `Stored.select`."""
        numbers = np.arange(self.num_examples) if self._numbers is None else self._numbers
        return Decoded(self.reader, self._decode, self.collate, numbers[index])

    def _numbers_of(self, index: np.ndarray) -> np.ndarray:
        return index if self._numbers is None else self._numbers[index]

    def _columns(self, numbers: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Columns of numbers, and those of strings."""
        collated, is_ours = self._side_by_side(numbers)
        columns, texts = {}, {}
        for name in list(collated):
            array, is_text = _checked(name, collated.pop(name))
            (texts if is_text else columns)[name] = array
            if not array.ndim or len(array) != len(numbers):
                raise self._error(
                    f"column {name!r} has shape {array.shape} for a batch of {len(numbers)} examples: "
                    f"{'collate' if self.collate else '__getitems__'} must return one entry an example"
                )
            del array  # else it is seen as held
        if not is_ours:
            make_own(columns)
            make_own(texts)
        if not columns:
            raise self._error(
                f"its columns hold no numbers: {', '.join(texts) or 'there are none'}. Make some in decode="
            )
        return columns, texts

    def _side_by_side(self, numbers: np.ndarray) -> tuple[dict[str, Any], bool]:
        """Columns, and whether they were made here: a source, or collate, may use its own again."""
        read = self._read(numbers)
        if isinstance(read, Mapping) and self._decode is None and self.collate is None:
            return dict(read), False
        examples = self._decoded(_listed(read, len(numbers)), numbers)
        self._check_own_memory(examples, numbers)
        return dict(self._collated(examples, numbers)), self.collate is None

    def _read(self, numbers: np.ndarray) -> ReadExamples:
        try:
            return self.reader.read(numbers)
        except ExampleError:  # of a mix, which says where it is from
            raise
        except Exception as error:
            for number in numbers if len(numbers) > 1 else ():
                try:
                    self.reader.read(np.asarray([number]))
                except Exception as cause:
                    raise self._broken("read", number, cause) from cause
            raise self._broken("read", numbers[0], error) from error

    def _decoded(self, examples: Sequence[Any], numbers: np.ndarray) -> Sequence[Example]:
        decoded: list[Any] = []
        try:  # extend keeps what came before an error: how many tells which one it was
            decoded.extend(examples if self._decode is None else map(self._decode, examples))
        except Exception as error:
            raise self._broken("decode", numbers[len(decoded)], error) from error
        if set(map(type, decoded)) != {dict}:
            self._check_named(decoded, numbers)
        return decoded

    def _check_named(self, decoded: Sequence[Any], numbers: np.ndarray) -> None:
        for number, example in zip(numbers, decoded, strict=True):
            if example is None:
                raise self._error(
                    "it is None, as what a Grain filter(...) takes out: leave it out by its place, "
                    "data[np.delete(np.arange(len(data)), place)]",
                    number,
                )
            if not isinstance(example, Mapping):
                what = "is" if self._decode is None else "becomes"
                raise self._error(
                    f"an example {what} {a_type(example)}, and a batch needs named columns: pass "
                    'decode=, a function of one example that returns a dict, as {"image": ..., "label": ...}',
                    number,
                )

    def _check_own_memory(self, examples: Sequence[Example], numbers: np.ndarray) -> None:
        """It looks at the first batch alone: a source that uses a buffer again does so from the beginning."""
        if self._is_memory_checked:
            return

        def read(number: int) -> object:
            one = np.asarray([number])
            return self._decoded(_listed(self.reader.read(one), 1), one)

        if (name := column_written_again(examples, numbers.tolist(), read)) is not None:
            raise self._error(
                f"each example is written into the same memory: a batch would hold the last one's {name!r} "
                f"again and again. Return an array of its own, such as np.array({name})"
            )
        self._is_memory_checked = len(numbers) > 1

    def _collated(self, examples: Sequence[Example], numbers: np.ndarray) -> Mapping[str, Any]:
        try:
            if self.collate is not None:
                return self.collate(examples)
            first = f"example {numbers[0]}"
            columns = columns_of(examples, first)
            return {name: stacked(name, values, first) for name, values in columns.items()}
        except UnlikeError as error:
            raise self._error(str(error), numbers[error.i]) from None
        except Exception as error:
            raise self._error(
                f"collate fails: {type(error).__name__}: {str(error).removesuffix('.')}"
            ) from error

    def _check_alike(self, columns: dict[str, np.ndarray]) -> None:
        """Whether all batches have the names and types of the first: a compiled step takes no others."""
        dtypes = {name: column.dtype for name, column in columns.items()}
        if self._dtypes is None:
            self._dtypes = dtypes
        if dtypes != self._dtypes:
            listed = [
                ", ".join(f"{name} {dtype}" for name, dtype in each.items())
                for each in (dtypes, self._dtypes)
            ]
            raise self._error(
                f"a batch has the columns {listed[0]}, where an earlier one has {listed[1]}: convert them in "
                "decode="
            )

    def _broken(self, verb: str, number: Object, error: BaseException) -> ExampleError:
        return self._error(
            f"cannot {verb} it: {type(error).__name__}: {error}. Mend it, or leave it out by its place: "
            "data[np.delete(np.arange(len(data)), place)]",
            number,
        )

    def _error(self, text: str, number: Object = None) -> ExampleError:
        place = self.name if number is None else self.reader.place(int(number))
        return ExampleError(
            f"{place}: {text}.", source=self.name, number=None if number is None else int(number)
        )


def _checked(name: str, column: Object) -> tuple[np.ndarray, bool]:
    """A column as an array, and whether it is of strings."""
    array = np.asarray(column)
    text = text_of(array)
    return (checked_column(name, array), False) if text is None else (text, True)


def _listed(read: ReadExamples, count: int) -> Sequence[Any]:
    """Examples one by one: columns are taken apart."""
    if not isinstance(read, Mapping):
        return read
    return [{name: column[i] for name, column in read.items()} for i in range(count)]
