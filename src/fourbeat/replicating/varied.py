"""What varies over the members: their seeds, and hyperparameters of the optimizer."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from types import FunctionType, MethodType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fourbeat.types import Model, Object, OptState

SEED = "seed"


class SameMembersWarning(UserWarning):
    """Members that are to differ by their seeds begin with the same values."""


def checked_over(over: Mapping[str, Sequence[Any]] | None, num: int) -> dict[str, list]:
    """The values of each member, by name.

    Raises:
      TypeError: `over` is no dict of sequences of numbers.
      ValueError: a name has not one value a member.
    """
    if over is not None and not isinstance(over, Mapping):
        raise TypeError(
            f"over is {over!r:.80}; expected a dict of one value a member by name, such as "
            '{"seed": range(8)} or {"learning_rate": [1e-3, 3e-3, 1e-2]}.'
        )
    varied = {}
    for name, values in (over or {}).items():
        if isinstance(values, str | Mapping) or not hasattr(values, "__len__") or np.ndim(values) != 1:
            raise TypeError(
                f"over[{name!r}] is {values!r:.80}; expected one value a member: a list, a range or an array."
            )
        if len(values) != num:
            raise ValueError(
                f"over[{name!r}] has {len(values)} values for {num} members. Give one value a member."
            )
        kind = Integral if name == SEED else Real
        wrong = [value for value in values if isinstance(value, bool) or not isinstance(_plain(value), kind)]
        if wrong:
            expected = "ints, from which models and keys are made" if name == SEED else "numbers"
            raise TypeError(f"over[{name!r}] has the value {wrong[0]!r:.80}; expected {expected}.")
        varied[name] = [_plain(value) for value in values]
    return varied


def _plain(value: Object) -> Any:
    return value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value


def made(model: Model | Callable[..., Model], seeds: Sequence[int] | None, place: int) -> Model:
    """The model of one member.

    Args:
      model: a model; a function without arguments that makes it; or one of the seed.
      seeds: of the members, if they vary.
      place: the member's.

    Raises:
      ValueError: the function needs a seed, and none varies.
    """
    if not isinstance(model, FunctionType | MethodType | partial):
        return model
    if not takes_seed(model):
        return model()
    if seeds is None:
        raise ValueError(
            'init was given a function of a seed, and over has no seeds. Pass over={"seed": [...]} with one '
            "seed a member, or a function without arguments."
        )
    return model(seeds[place])


def takes_seed(model: Object) -> bool:
    """Whether it is a function that takes one argument: the seed.

    >>> takes_seed(lambda seed: {}), takes_seed(lambda: {}), takes_seed({"w": 1.0})
    (True, False, False)
    """
    if not isinstance(model, FunctionType | MethodType | partial):
        return False
    parameters = inspect.signature(model).parameters
    free = [p for p in parameters.values() if p.default is p.empty and p.kind is not p.KEYWORD_ONLY]
    return SEED in parameters or bool(free)


def warn_of_same_values(model: Model, seeds: Sequence[int] | None) -> None:
    """Warns where the seeds vary, and the model is the same for all of them."""
    if seeds is not None and len(set(seeds)) > 1 and not takes_seed(model):
        warnings.warn(
            f"{len(seeds)} members with seeds of their own begin with the same parameters: only their keys "
            "differ. Give init a function of the seed, init(lambda seed: CNN(rngs=nnx.Rngs(seed))).",
            SameMembersWarning,
            stacklevel=4,
        )


def with_hyperparameter(opt_state: OptState, name: str, value: float) -> Any:
    """The optimizer's state with one hyperparameter of `optax.inject_hyperparams` set.

    Raises:
      ValueError: the optimizer holds no such hyperparameter, or several; or a schedule sets it.
    """
    has = lambda node: hasattr(node, "hyperparams")
    nodes, structure = jax.tree.flatten(opt_state, is_leaf=has)
    places = [place for place, node in enumerate(nodes) if has(node) and name in node.hyperparams]
    if len(places) != 1:
        raise ValueError(_no_such(name, len(places), [node.hyperparams for node in nodes if has(node)]))
    (place,) = places
    node = nodes[place]
    if name in getattr(node, "hyperparams_states", {}):
        raise ValueError(
            f"over has {name!r}, and in this optimizer a schedule sets it at every step, so it cannot vary "
            "over the members. Give inject_hyperparams a number, and let the schedule multiply it: "
            "optax.chain(tx, optax.scale_by_schedule(schedule)), where the schedule begins at 1."
        )
    old = jnp.asarray(node.hyperparams[name])
    nodes[place] = node._replace(hyperparams={**node.hyperparams, name: jnp.asarray(value, old.dtype)})
    return structure.unflatten(nodes)


def _no_such(name: str, num_found: int, held: list[Mapping[str, Any]]) -> str:
    if num_found:
        return (
            f"over has {name!r}, and {num_found} parts of this optimizer have a hyperparameter of that name. "
            "Make one of them without optax.inject_hyperparams, or list it in its static_args."
        )
    names = sorted({each for hyperparams in held for each in hyperparams})
    holds = f"it holds {', '.join(names)}" if names else "it holds none"
    example = f"optax.inject_hyperparams(optax.adamw)({name}=...)"
    return (
        f"over has {name!r}, and the optimizer has no hyperparameter of that name in its state: {holds}. "
        f"Make it with optax.inject_hyperparams, such as {example}."
    )
