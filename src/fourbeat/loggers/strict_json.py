"""JSON as its standard has it, in every file and output: no bare NaN or Infinity, which few readers take."""

import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from fourbeat.types import Object


def dumps(value: Object, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """The text of a value. Arrays become lists, paths text, and what is not finite null.

    Args:
      value: of dicts, lists, numbers, texts, arrays.
      indent: as of `json.dumps`.
      default: turns a value that JSON does not have into one that it has; without it such a value is an
      error.

    Raises:
      TypeError: a value is nothing that JSON has.

    >>> dumps({"loss": float("nan"), "scores": (1.0, float("inf"))})
    '{"loss": null, "scores": [1.0, null]}'
    """
    return json.dumps(plain(value), indent=indent, allow_nan=False, default=default or _refuse)


def loads(text: str | bytes) -> Object:
    """The value of a text; a bare NaN or Infinity, as others write it, is None.

    Raises:
      ValueError: it is no JSON, or nested too deeply.

    >>> loads('{"loss": NaN}')
    {'loss': None}
    """
    try:
        return json.loads(text, parse_constant=lambda name: None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def plain(value: Object) -> Any:
    """The value as JSON has it: arrays as lists, paths as text, None for what is not finite."""
    if isinstance(value, Mapping):
        return {key: plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _refuse(value: Object) -> Any:
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written as JSON")
