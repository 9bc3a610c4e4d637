"""The values of one column of several examples, side by side in one array."""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from fourbeat.types import Object

Example: TypeAlias = Mapping[str, Any]


class UnlikeError(ValueError):
    """A value that cannot stand beside the others of its batch.

    A collate function that raises it is answered with an `ExampleError` that names the example.

    Attributes:
      i: the place of its example in the batch.
    """

    def __init__(self, i: int, message: str):
        super().__init__(message)
        self.i = i


def columns_of(examples: Sequence[Example], first: str = "the first") -> dict[str, list[Any]]:
    """The values of each column, one an example.

    Args:
      examples: at least one.
      first: how errors name the first of them.

    Raises:
      UnlikeError: an example has other columns than the first.

    >>> columns_of([{"x": 1, "y": 2}, {"y": 4, "x": 3}])
    {'x': [1, 3], 'y': [2, 4]}
    """
    names = examples[0].keys()
    if set(map(len, examples)) == {len(names)}:
        with contextlib.suppress(KeyError):
            return {name: [example[name] for example in examples] for name in names}
    for i, example in enumerate(examples):
        if example.keys() != names:
            raise UnlikeError(
                i,
                f"it has the columns {', '.join(example)}, where {first} has {', '.join(names)}: all "
                "examples need the same",
            )
    raise AssertionError("an example has the columns of the first and lacks one of them")


def stacked(name: str, values: Sequence[Any], first: str = "the first") -> np.ndarray:
    """An array of leading dimension `len(values)`; of strings and of bytes too, those as objects.

    Args:
      name: of the column.
      values: numbers, arrays, tensors of torch, strings or bytes: one an example.
      first: how errors name the first of them.

    Raises:
      UnlikeError: a value is none of these, or has another shape than the first.

    >>> stacked("x", [np.uint8([1, 2]), np.uint8([3, 4])])
    array([[1, 2],
           [3, 4]], dtype=uint8)
    """
    kinds = set(map(type, values))
    if kinds == {bytes}:
        column = np.empty(len(values), object)
        column[:] = values
        return column
    if kinds <= {int, float, bool} or kinds == {str} or all(issubclass(kind, np.generic) for kind in kinds):
        return np.array(values)
    if type(values[0]).__module__ == "torch":
        return _stacked_tensors(name, values, first)
    arrays = [array_of(name, i, value) for i, value in enumerate(_of_one_type(values, kinds))]
    _check_alike(name, arrays, first)
    # concatenate is half the price of stack, which looks at each array on its own
    whole = np.concatenate([array[None] if array.ndim == 0 else array for array in arrays])
    return whole.reshape(len(arrays), *arrays[0].shape)


def array_of(name: str, i: int, value: Object) -> np.ndarray:
    """The value of example `i` in a column as an array.

    Raises:
      UnlikeError: it is none.
    """
    if type(value) is np.ndarray:
        return value
    if value is None:
        raise UnlikeError(
            i,
            f"its {name!r} is null (None), and nothing stands for a missing value: fill it in decode=, or "
            "leave the example out by its place, data[np.delete(np.arange(len(data)), place)]",
        )
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    named = kind.__name__ if library == "builtins" else f"{library}.{kind.__name__}"
    array = None
    if library != "PIL":  # whose array may be of places in a palette
        try:
            array = np.asarray(value)
        except ValueError:  # nested lists of unlike length
            array = None
    if array is None or array.dtype.kind == "O":
        made = f"np.asarray(example[{name!r}].convert('RGB'))" if library == "PIL" else "..."
        raise UnlikeError(
            i,
            f"its {name!r} is of type {named}, no array of numbers: make one in decode=, "
            f"as in lambda example: {{**example, {name!r}: {made}}}",
        )
    return array


def _of_one_type(values: Sequence[Any], kinds: set[type]) -> Sequence[Any]:
    """Numbers of Python take the type of those of NumPy beside them, where they fit: a -1 for a null, say."""
    types = [kind for kind in kinds if issubclass(kind, np.generic)]
    if len(types) != 1 or not kinds - {*types} <= {int, float}:
        return values
    (kind,) = types
    if any(np.result_type(kind, each(0)) != np.dtype(kind) for each in kinds - {kind}):
        return values
    try:
        return [kind(value) for value in values]
    except OverflowError:
        return values


def _stacked_tensors(name: str, values: Sequence[Any], first: str) -> np.ndarray:
    torch = sys.modules["torch"]
    tensors = (
        values if set(map(type, values)) == {torch.Tensor} else [torch.as_tensor(each) for each in values]
    )
    try:
        column = torch.stack(list(tensors)).detach()
    except RuntimeError:
        _check_alike(name, tensors, first)
        raise
    if column.dtype != tensors[0].dtype:  # a wider one is among them; looking at each is slow
        _check_alike(name, tensors, first)
    if column.dtype == torch.bfloat16:  # which NumPy has from another library
        import ml_dtypes

        return column.cpu().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return column.cpu().numpy()


def _check_alike(name: str, arrays: Sequence[Any], first: str) -> None:
    wanted, dtype = arrays[0].shape, arrays[0].dtype
    if {array.shape for array in arrays} == {wanted} and {array.dtype for array in arrays} == {dtype}:
        return
    for i, array in enumerate(arrays):
        if array.shape != wanted:
            raise UnlikeError(
                i,
                f"its {name!r} has shape {tuple(array.shape)}, where that of {first} has "
                f"{tuple(wanted)}: bring them to one shape in decode=, or pad them with "
                "collate=fourbeat.data.pad_to(...)",
            )
        if array.dtype != dtype:
            raise UnlikeError(
                i,
                f"its {name!r} has dtype {array.dtype}, where that of {first} has {dtype}: bring them to one "
                "type in decode=",
            )
