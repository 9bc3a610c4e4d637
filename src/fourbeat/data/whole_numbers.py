"""Whole numbers that a caller gives."""

import operator

from fourbeat.types import Object


def whole_number(name: str, value: Object) -> int:
    """`value` as a Python int.

    Args:
      name: how the error names it.
      value: an int, or a scalar of NumPy or JAX that is one.

    Raises:
      TypeError: it is no whole number; True and False are none.

    >>> import numpy as np
    >>> whole_number("batch_size", np.int64(32))
    32
    """
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{name} is {value!r}; expected a whole number.")
