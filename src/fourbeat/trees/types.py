"""The types that recur in signatures, each under the name that the documentation uses."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeAlias

Model: TypeAlias = Any  # an NNX module, a pytree of modules, or any other pytree
Params: TypeAlias = dict[Hashable, Any]  # nested dicts of arrays: what `wrt` selects
Rest: TypeAlias = dict[Hashable, Any]  # nested dicts: all other arrays of a model
Batch: TypeAlias = Any  # a pytree of arrays, such as a dict of columns
Args: TypeAlias = tuple[Any, ...]  # positional arguments of a function of the user's
Keywords: TypeAlias = Mapping[str, Any]  # its keyword arguments
StepFunction: TypeAlias = Callable[..., tuple[Any, Any]]  # `(state, batch) -> (state, out)`
