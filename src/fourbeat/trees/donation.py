"""An error that explains donated arrays. It is made only after a call fails: other calls cost nothing."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.core import Tracer

from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import Object, State

_Args = ParamSpec("_Args")
_Out = TypeVar("_Out")


# A state holds only these after a compiled step took its buffers: the numbers of the new state (the first is
# its step) and the earlier fields. So the use of a field finds nothing, and the error can explain why.
GIVEN_TO, TAKEN = "_given_to", "_taken"


class UsedUpError(RuntimeError):
    """A state (or another argument) was used after a compiled step had taken its buffers."""


def explaining_used_up(function: Callable[_Args, _Out]) -> Callable[_Args, _Out]:
    """The same function of a state, but it raises a `UsedUpError` if the state is used up."""
    names = list(inspect.signature(function).parameters)
    place = names.index("state") if "state" in names else 0

    @functools.wraps(function)
    def explained(*args: _Args.args, **kwargs: _Args.kwargs) -> _Out:
        try:
            return function(*args, **kwargs)
        except (RuntimeError, ValueError) as error:
            raise_if_used_up(error, state=args[place])
            raise

    return explained


def raise_if_used_up(error: Exception, /, **arguments: Any) -> None:
    """Raises a `UsedUpError` if an array of the arguments is deleted; otherwise returns.

    Args:
      error: the error that the use of such an array has raised.
      arguments: the arguments by name; the one named `state` is explained as a state.
    """
    if isinstance(error, UsedUpError):
        return  # the error is explained already
    for name, argument in arguments.items():
        deleted = [place for place, leaf in leaves_with_paths(argument, name) if _is_deleted(leaf)]
        if deleted and name == "state":
            raise used_up(argument, deleted[0]) from error
        if deleted:
            raise UsedUpError(
                f"{deleted[0]} is deleted: a call to which it was donated took its buffer. Give each such "
                "call a copy, jnp.copy(x)."
            ) from error


def used_up(state: State, place: str) -> UsedUpError:
    """The error for a state whose array at `place` is deleted."""
    place = "state.step" if place == "state.numbers" else place  # the step is the first of the numbers
    return UsedUpError(
        f"this state is used up: it was given to {_step_after(state)}, which took its buffers "
        f"({place} is deleted). Write `state, logs = step(state, batch)`, or keep a copy of it "
        "before, state.replace()."
    )


def _step_after(state: State) -> str:
    after = getattr(state, GIVEN_TO, None)
    if after is None or isinstance(after, Tracer) or after.is_deleted():
        return "an earlier step"
    return f"step {int(np.ravel(after)[0])}"


def _is_deleted(leaf: Object) -> bool:
    return isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and leaf.is_deleted()
