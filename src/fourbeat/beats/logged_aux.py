"""What the logs of a step take from the aux of a loss function: means by the weight contract."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fourbeat.beats.loss import Forward, LossFunction, forward, is_weighted, weighted_mean
from fourbeat.beats.options import Options
from fourbeat.beats.state import TrainState
from fourbeat.metrics.per_example import check_one_value_an_example
from fourbeat.trees.arguments import is_traceable
from fourbeat.trees.articles import a_type
from fourbeat.trees.example_counts import known_num_examples
from fourbeat.trees.jaxprs import reached
from fourbeat.types import Aux, Batch, Logs, Object


def logged_aux(
    loss_fn: LossFunction,
    options: Options,
    state: TrainState,
    batch: Batch,
    seen: Forward,
    key: jax.Array | None,
) -> Logs:
    """The numbers that `options.logs` names and the step itself does not have: float32 scalars.

    An array of one value an example (or a token) is reduced as the loss is. A scalar is taken as it is.

    Args:
      loss_fn: the loss.
      options: its names are looked for in `seen.aux`.
      state: before the step.
      batch: columns of the batch, or of a microbatch.
      seen: its forward pass.
      key: for a loss function that takes one.

    Raises:
      TypeError: a value is no array.
      ValueError: aux has no such name, or has one that is the step's own too; a value has not one entry an
        example; or a scalar beside a weight takes no notice of it.
    """
    aux = seen.aux if isinstance(seen.aux, Mapping) else {}
    for name in options.logs or ():
        if name in aux and name in options.own_names:
            raise ValueError(f"logs names {name!r}, which the step and aux both have. Rename the one in aux.")
    return {name: _mean(name, aux, loss_fn, options, state, batch, key) for name in options.names_in_aux}


def _mean(
    name: str,
    aux: Mapping[str, Any],
    loss_fn: LossFunction,
    options: Options,
    state: TrainState,
    batch: Batch,
    key: jax.Array | None,
) -> jax.Array:
    if name not in aux:
        has = f"aux has {', '.join(map(str, aux))}" if aux else "loss_fn returns no aux"
        raise ValueError(
            f"logs names {name!r}, and neither the step nor aux has it. The step has "
            f"{', '.join(options.own_names)}; {has}."
        )
    what, value = f"aux[{name!r}]", aux[name]
    if not isinstance(value, jax.Array | float | int):
        raise TypeError(
            f"logs names {name!r}, and {what} is {a_type(value)}. A step logs numbers: give it an array of "
            "one value an example, or a scalar."
        )
    value = jnp.asarray(value)

    def again(columns: Batch) -> jax.Array:
        how: dict[str, Any] = {"key": key, "train": True, "is_checked": True}
        seen = forward(loss_fn, state.static, state.params, state.rest, columns, **how)
        return jnp.asarray(seen.aux[name])

    if value.ndim == 0:
        if is_weighted(batch):
            _check_weighted(what, batch, again)
        return value.astype(jnp.promote_types(value.dtype, jnp.float32))
    check_one_value_an_example(what, value.shape, batch, known_num_examples(batch), again)
    return weighted_mean(value, batch["weight"] if is_weighted(batch) else None, what=what)[0]


def _check_weighted(what: str, batch: dict[str, Any], again: Callable[[Batch], jax.Array]) -> None:
    """Raises if a scalar is computed from the examples, and not from their weight.

    The forward pass is traced for it, and adds nothing to the program.
    """
    others = {name: column for name, column in batch.items() if name != "weight"}
    of_weight = jax.make_jaxpr(lambda weight: again({**others, "weight": weight}))(batch["weight"])
    of_others = jax.make_jaxpr(lambda others: again({**others, "weight": batch["weight"]}))(others)
    if all(reached(of_others.jaxpr)) and not all(reached(of_weight.jaxpr)):
        raise ValueError(
            f"{what} is a scalar, but the batch has a weight column of shape {jnp.shape(batch['weight'])}: a "
            "mean taken by loss_fn cannot be weighted any more. Return one value an example: drop the "
            ".mean()."
        )


def arrays_of(aux: Aux) -> Aux:
    """What of aux a compiled function can return; None where nothing is left.

    >>> arrays_of({"kl": 1.0, "name": "vae"})
    {'kl': 1.0}
    """
    is_array = lambda tree: all(map(is_traceable, jax.tree.leaves(tree)))
    if isinstance(aux, Mapping):
        aux = {name: value for name, value in aux.items() if is_array(value)}
    return aux if is_array(aux) and jax.tree.leaves(aux) else None


def over_microbatches(aux: Aux, num_examples: int | None, in_order: Callable[[Object], Any]) -> Aux:
    """Stacked aux of the microbatches, with one entry an example again where each has one.

    Args:
      aux: each leaf has a leading axis of microbatches.
      num_examples: of a microbatch.
      in_order: brings a leaf of shape (microbatches, examples, ...) into the order of the batch.
    """
    if num_examples is None:
        return aux
    return jax.tree.map(lambda leaf: in_order(leaf) if leaf.shape[1:2] == (num_examples,) else leaf, aux)
