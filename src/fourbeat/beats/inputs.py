"""Inputs: what a loss function takes by name beside the model, the batch and the key."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import LossFn, Object

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
# the beats have arguments of these names
_TAKEN = {
    "key": "The key of a step is made of state.key and state.step: state.replace(key=...) starts another.",
    **dict.fromkeys(("batch", "carry", "metrics", "state"), "Rename the parameter."),
}


EVALUATION = "eval_step(state, batch, metrics"
"""How an evaluation is called: it has inputs only where the beats hold them."""


class InputNames:
    """The names of a loss function's inputs, from its signature.

    Args:
      function: `loss_fn(model, batch, ...)`; its first two positional parameters are no inputs.

    Raises:
      TypeError: it needs an input of a name that the beats have for an argument of theirs.

    >>> names = InputNames(lambda model, batch, key, *, critic, temperature=1.0: 0.0)
    >>> names.needed, names.known
    (('critic',), ('critic', 'temperature'))
    """

    def __init__(self, function: LossFn):
        parameters = list(inspect.signature(function).parameters.values())
        own = [each for each in parameters if each.kind in _POSITIONAL][:2]
        named = [p for p in parameters if p.kind in _NAMED and p.name != "key" and p not in own]
        self.known = tuple(each.name for each in named)
        self.needed = tuple(each.name for each in named if each.default is inspect.Parameter.empty)
        check_names(self.needed)
        self._takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)

    def check(self, inputs: Mapping[str, Any], call: str) -> None:
        """Raises unless the loss function can be called with these inputs.

        Args:
          inputs: by name.
          call: how they are given, for the texts, such as `train_step(state, batch`.

        Raises:
          TypeError: one that it needs is missing, or it has no such parameter.
        """
        check_names(inputs)
        for name in inputs:
            if name not in self.known and not self._takes_any:
                known = (
                    f"It takes {', '.join(self.known)}." if self.known else "It takes no such input at all."
                )
                raise TypeError(
                    f"{call}, {name}=...) was called, and loss_fn has no parameter {name!r}. {known}"
                )
        for name in self.needed:
            if name not in inputs:
                where = "evaluation" if call == EVALUATION else "the step"
                held = f"fb.evaluator(beats.given({name}=...))"
                repair = (
                    f"hold it in the beats, {held}" if call == EVALUATION else f"pass it, {call}, {name}=...)"
                )
                raise TypeError(
                    f"loss_fn needs the input {name!r}, and {where} was not given it. Give the parameter a "
                    f"default, or {repair}."
                )


def check_names(names: Iterable[str]) -> None:
    """Raises a `TypeError` if the beats have an argument of theirs with one of these names."""
    for name in names:
        if name in _TAKEN:
            raise TypeError(f"an input of loss_fn cannot have the name {name!r}. {_TAKEN[name]}")


def lent(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs in new containers, so that what is written to them reaches no object of the user's."""
    return jax.tree.map(lambda leaf: leaf, dict(inputs))


def check_unwritten(inputs: Mapping[str, Any], used: Mapping[str, Any]) -> None:
    """Raises if a loss function wrote to an input.

    Args:
      inputs: as they were given.
      used: what `lent` made of them, after the call.

    Raises:
      ValueError: names the first array that was written.
    """
    for name, before in inputs.items():
        if (place := _first_written(name, before, used[name])) is not None:
            raise ValueError(
                f"loss_fn writes to {place}, and an input of a step is only read: the write would be lost. "
                "Keep what changes in the model, or put a module into evaluation mode, module.eval()."
            )


def _first_written(name: str, before: Object, after: Object) -> str | None:
    leaves, now = leaves_with_paths(before, name), dict(leaves_with_paths(after, name))
    for place, leaf in leaves:
        if now.pop(place, None) is not leaf:
            return place
    return next(iter(now), None)
