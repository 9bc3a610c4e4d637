"""The types of the leaves of a state: for Python numbers, for NumPy arrays, and the join of two types."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from fourbeat.functional import refusals
from fourbeat.types import Object


@dataclasses.dataclass(frozen=True)
class Form:
    """The type of one leaf: its dtype, whether it yields to others, and what the object held.

    `holds` is what `commit` gives back: "array", "key", "numpy" (replaced), "box" (a NumPy array
    written in place), or "number".
    """

    dtype: Any
    weak: bool
    holds: str = "array"
    number: type | None = None

    def joined(self, other: "Form") -> "Form":
        """The form that can hold values of both, by JAX's promotion rules."""
        if (self.dtype, self.weak) == (other.dtype, other.weak):
            return self
        both = jax.eval_shape(
            jnp.add,
            jax.ShapeDtypeStruct((), self.dtype, weak_type=self.weak),
            jax.ShapeDtypeStruct((), other.dtype, weak_type=other.weak),
        )
        number = self.number
        if number is not None and np.dtype(both.dtype).kind != np.dtype(self.dtype).kind:
            number = {"f": float, "c": complex}.get(jnp.dtype(both.dtype).kind, float)
        return Form(both.dtype, bool(both.weak_type), self.holds, number)


def form_of_number(value: Object, path: str) -> Form:
    """The form that a Python or NumPy number takes as state: weak where it is a Python number."""
    dtype = jax.dtypes.canonicalize_dtype(np.result_type(type(value)))
    check_fits(value, dtype, path)
    weak = not isinstance(value, np.number)
    return Form(jnp.dtype(dtype), weak, "number", type(value))


def fitting_dtype(value: np.ndarray, path: str) -> Any:
    """The dtype that JAX gives an array; raises where its integers do not fit."""
    dtype = jnp.dtype(jax.dtypes.canonicalize_dtype(value.dtype))
    if dtype != value.dtype and dtype.kind in "iu" and value.size:
        for extreme in (value.min(), value.max()):
            check_fits(extreme, dtype, path)
    return dtype


def check_fits(value: Object, dtype: DTypeLike, path: str) -> None:
    """Raises where an integer is outside the range of an integer dtype."""
    if jnp.issubdtype(dtype, jnp.integer) and isinstance(value, (int, np.integer)):
        info = jnp.iinfo(dtype)
        if not info.min <= int(value) <= info.max:
            raise refusals.too_large(path, value, jnp.dtype(dtype))
