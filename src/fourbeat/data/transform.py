"""Functions of a batch that run inside the compiled step, with a key from seed and step."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax

from fourbeat.trees.articles import a_type
from fourbeat.types import Object


class Transform(NamedTuple):
    """A function of a batch's columns, and how it takes its key.

    Attributes:
      function: `function(columns)` or `function(columns, key)`; returns a dict of columns.
      key_argument: None where it takes no key; else whether the key goes by position or by name.
    """

    function: Callable[..., Mapping[str, Any]]
    key_argument: Literal["position", "name"] | None


def as_transform(function: Callable[..., Mapping[str, Any]]) -> Transform:
    """Wraps `function`, reading from its signature whether it wants a key.

    Raises:
      TypeError: `function` cannot be called, or cannot be hashed (it becomes a static part of
        every batch, by which compiled steps are found again).
    """
    if not callable(function):
        raise TypeError(
            f"cannot map {function!r}: it is {a_type(function)}, not a function. "
            "Pass fn(batch) or fn(batch, key)."
        )
    try:
        hash(function)
    except TypeError as error:
        raise TypeError(
            f"cannot map {a_type(function)}: it has no hash, and compiled steps are found "
            "by it. Give its class a __hash__ (for a dataclass: frozen=True)."
        ) from error
    return Transform(function, _key_argument(function))


def wants_key(transforms: tuple[Transform, ...]) -> bool:
    """Whether any of `transforms` takes a key."""
    return any(transform.key_argument is not None for transform in transforms)


def apply_transforms(
    transforms: tuple[Transform, ...], columns: dict[str, Any], *, seed: int, step: Object
) -> dict[str, Any]:
    """Applies `transforms` in order; the i-th gets the key `fold_in(fold_in(key(seed), step), i)`.

    Args:
      transforms: what `Arrays.map` collected.
      columns: arrays of leading dimension B, without the column `weight`.
      seed: of the batches.
      step: int32 scalar, the global step; may be None where no transform wants a key.

    Returns:
      The last transform's columns, a new dict.

    Raises:
      TypeError: a transform returned no mapping.
      ValueError: a transform returned a column named `weight`.
    """
    step_key = jax.random.fold_in(jax.random.key(seed), step) if wants_key(transforms) else None
    for position, (function, key_argument) in enumerate(transforms):
        if key_argument is None or step_key is None:
            made = function(columns)
        elif key_argument == "name":
            made = function(columns, key=jax.random.fold_in(step_key, position))
        else:
            made = function(columns, jax.random.fold_in(step_key, position))
        columns = _checked_columns(function, made)
    return columns


def _key_argument(function: Callable[..., Any]) -> Literal["position", "name"] | None:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # some functions written in C have no signature
        return None
    if "key" in parameters:
        by_position = parameters["key"].kind is inspect.Parameter.POSITIONAL_ONLY
        return "position" if by_position else "name"
    positional = [
        parameter
        for parameter in parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    # A second parameter with a default, as in fn(batch, scale=2.0), is an option, not a key.
    return "position" if len(positional) > 1 else None


def _checked_columns(function: Callable[..., Any], made: Object) -> dict[str, Any]:
    name = getattr(function, "__name__", repr(function))
    if not isinstance(made, Mapping):
        raise TypeError(
            f"the mapped function {name} returned {a_type(made)}; a dict of columns was "
            "expected. End it with, for example: return {**batch, 'image': image}."
        )
    if "weight" in made:
        raise ValueError(
            f"the mapped function {name} returned a column 'weight'. The weight is taken out "
            "before mapped functions and put back after them: give it to Arrays(weight=...)."
        )
    return dict(made)
