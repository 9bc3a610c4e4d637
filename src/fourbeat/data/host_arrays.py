"""What a host column may be, and the array that a device keeps of it: every value fits, or it is an error."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fourbeat.types import Object


def host_array(place: str, value: Object, dtype: np.dtype | None = None) -> np.ndarray:
    """A NumPy array of numbers in native byte order and in a type that JAX keeps.

    64-bit numbers become 32-bit ones unless JAX's 64-bit types are on, and long doubles doubles: by value,
    where a cast would wrap integers or make floats infinite.

    Args:
      place: of the column, for the errors, such as `column 'x'`.
      value: an array, or what `numpy.asarray` takes.
      dtype: to convert to; by default the type in which JAX keeps that of the value.

    Returns:
      The value itself where it is such an array, else a copy.

    Raises:
      TypeError: it is not an array of numbers.
      ValueError: a value does not fit, or is masked.

    >>> host_array("column 'x'", np.array([1, 2])).dtype
    dtype('int32')
    """
    if type(value).__module__.startswith("torch"):
        value = _of_torch(value)
    if isinstance(value, np.ma.MaskedArray) and (num_masked := int(np.ma.count_masked(value))):
        raise ValueError(
            f"{place} is a masked array with {num_masked} masked value{'' if num_masked == 1 else 's'}, and "
            "a device keeps no mask. Fill them in, .filled(0), and give them weight 0 in the column 'weight'."
        )
    array = np.asarray(value)
    if not _is_numbers(array.dtype):
        raise TypeError(
            f"{place} has dtype {array.dtype}, which no device can hold. Encode it as numbers of one shape "
            "(integer labels, padded token ids, float features), or leave the column out."
        )
    dtype = _kept_dtype(array.dtype) if dtype is None else dtype
    return array if array.dtype == dtype else _converted(place, array, dtype)


# what a device keeps as it is: looked up for each batch, and in each call of a compiled step
KEPT = frozenset(
    np.dtype(each)
    for each in (
        *("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32"),
        "float16",
        "float32",
        jnp.bfloat16,
    )
)


def fitting_columns(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch whose columns a device can keep; the same object where nothing is to be converted.

    For a batch that no loop has looked at: `host_array` for its NumPy arrays, those of nested columns too.

    Raises:
      TypeError, ValueError: as `host_array`.
    """
    for column in batch.values():
        if not isinstance(column, jax.Array) and not (type(column) is np.ndarray and column.dtype in KEPT):
            break
    else:
        return batch

    def fitting(path: Object, leaf: Object) -> Any:
        if not isinstance(leaf, np.ndarray | np.generic):
            return leaf
        return host_array(f"batch{jax.tree_util.keystr(path)}", leaf)

    return jax.tree_util.tree_map_with_path(fitting, batch)


def _of_torch(value: Object) -> Any:
    """A tensor of PyTorch's as a NumPy array of the same bits; anything else as it is."""
    torch = sys.modules["torch"]
    if not isinstance(value, torch.Tensor):
        return value
    tensor = value.detach().cpu()
    name = str(tensor.dtype).removeprefix("torch.")
    if name == "bfloat16" or name.startswith("float8"):  # NumPy has none of them, and JAX all
        bits = tensor.contiguous().view(torch.int16 if tensor.itemsize == 2 else torch.int8)
        return bits.numpy().view(jnp.dtype(name))
    return tensor.numpy()


def _kept_dtype(dtype: np.dtype) -> np.dtype:
    """The type in which JAX keeps `dtype`: 32 bits for 64 unless 64-bit types are on."""
    if dtype in (np.longdouble, np.clongdouble):  # JAX knows none of these
        dtype = np.dtype(np.float64 if dtype == np.longdouble else np.complex128)
    return np.dtype(jax.dtypes.canonicalize_dtype(dtype.newbyteorder("=")))


def _converted(place: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`array` as `dtype`; a value that does not fit raises, where a cast would wrap or give inf."""
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if array.dtype.kind in "iu" and dtype.kind in "iu":
        fits = np.array_equal(cast, array)
    else:
        fits = np.array_equal(np.isfinite(cast), np.isfinite(array))
    if not fits:
        finite = array[np.isfinite(array)]
        can_be_wider = jax.dtypes.canonicalize_dtype(np.float64) != np.float64
        wider = ", or turn 64-bit types on: jax.config.update('jax_enable_x64', True)" if can_be_wider else ""
        raise ValueError(
            f"{place} holds {array.dtype} values from {finite.min()!s} to {finite.max()!s}, which do not fit "
            f"in {dtype}. Rescale them{wider}."
        )
    return cast


def _is_numbers(dtype: np.dtype) -> bool:
    """Whether `dtype` is bool or a number, those of ml_dtypes (bfloat16, int4, ...) too."""
    return dtype == np.bool_ or jnp.issubdtype(dtype, np.number)
