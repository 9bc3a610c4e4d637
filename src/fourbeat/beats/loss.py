"""Beats one and two: the forward pass, the loss under the weight contract, and what metrics are told."""

import contextlib
import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from fourbeat.beats.inputs import InputNames, check_unwritten, lent
from fourbeat.metrics import Metric
from fourbeat.metrics.per_example import check_one_value_an_example
from fourbeat.models import modules
from fourbeat.models.splitting import Static, read_back
from fourbeat.precision import Policy
from fourbeat.precision.precision_warnings import warn_of_half_loss
from fourbeat.precision.reductions import sums_in_float32
from fourbeat.trees.articles import a_type
from fourbeat.trees.example_counts import empty, known_num_examples, num_examples
from fourbeat.trees.paths import map_part
from fourbeat.types import Aux, Batch, LossFn, Model, Params, Rest

_OR_ITEMS = "Or return one loss an example."


class Forward(NamedTuple):
    """What one forward pass gives.

    Attributes:
      loss: float32 scalar, the weighted mean.
      weight: float32 scalar, the summed weight of that mean.
      items: the loss before its reduction: one value an example or token.
      item_weight: weights of the items, or None for ones.
      aux: what the loss function returned beside the loss, or None.
      rest: the model's other variables after the pass.
      is_mean: whether the loss was a scalar already.
      written: parameters that the pass wrote, a nested dict of them alone; often empty.
    """

    loss: jax.Array
    weight: jax.Array
    items: jax.Array
    item_weight: jax.Array | None
    aux: Aux
    rest: Rest
    written: Params
    is_mean: bool


class LossFunction:
    """A user's loss function with its conventions settled: its key, its aux, its precision, its inputs.

    Attributes:
      function: the user's.
      policy: the precision, or None.
      takes_key: whether it has a parameter named `key`.
      inputs: what it is given by name beside the model, the batch and the key.
    """

    def __init__(self, function: LossFn, policy: Policy | None = None):
        if not callable(function):
            raise TypeError(
                f"loss_fn is {function!r}. Pass a function loss_fn(model, batch) that returns the loss, "
                "or the loss and a dict of what the metrics need."
            )
        self.function = function
        self.policy = policy
        self.takes_key = "key" in inspect.signature(function).parameters
        self.inputs: Mapping[str, Any] = {}
        self._names = InputNames(function)

    def given(self, inputs: Mapping[str, Any], call: str) -> Self:
        """The same loss function with these inputs.

        Args:
          inputs: by name; arrays, traced or not.
          call: how they are given, for the texts of errors, such as `train_step(state, batch`.

        Raises:
          TypeError: one that it needs is missing, or it has no such parameter.
        """
        self._names.check(inputs, call)
        given = copy.copy(self)
        given.inputs = inputs
        return given

    def with_wide_sums(self, function: Callable, look: Callable | None = None) -> Callable:
        """`function`, a part of the step; under a policy its sums are accumulated in float32.

        Under a policy `look` is called with its program as it was traced.
        """
        return function if self.policy is None else sums_in_float32(function, look)

    def __call__(self, model: Model, batch: Batch, key: jax.Array | None) -> tuple[jax.Array, Any]:
        """The unreduced loss and aux (None where there is none)."""
        inputs = lent(self.inputs)
        keywords = {"key": key, **inputs} if self.takes_key else inputs
        out = self.function(model, batch, **keywords)
        check_unwritten(self.inputs, inputs)
        loss, aux = out if isinstance(out, tuple) and len(out) == 2 else (out, None)
        if not isinstance(loss, jax.Array | float | int):
            raise TypeError(
                f"loss_fn returned {loss!r:.80}. It must return `loss`, an array, or `(loss, aux)`."
            )
        if isinstance(aux, Mapping) and (taken := {"loss", "weight"} & aux.keys()):
            raise ValueError(
                f"aux has {sorted(taken)}, names that the step itself gives to the metrics. Rename it."
            )
        return jnp.asarray(loss), aux


def forward(
    loss_fn: LossFunction,
    static: Static,
    params: Params,
    rest: Rest,
    batch: Batch,
    *,
    key: jax.Array | None,
    train: bool,
    is_checked: bool = False,
) -> Forward:
    """Runs the model in train or eval mode on a clone, and reduces the loss.

    The loss is one value an example (or a token of it), or a scalar; `is_checked` says that this is known.

    Raises:
      ValueError: the forward pass changed the model's structure, the loss's first axis is not the batch's,
        or loss and weight do not fit.
    """
    if known_num_examples(batch) == 0:
        raise empty(batch)
    policy = loss_fn.policy
    computed = params if policy is None else policy.computed(static, params)

    def made() -> Any:
        model = static.merge(computed, rest)
        if static.is_module and train:
            modules.train_mode(model)
        return model

    def run(model: Model) -> tuple[jax.Array, Any]:
        with contextlib.nullcontext() if policy is None else policy.computing(model):
            return loss_fn(model, batch, key)

    model = made()
    items, aux = static.holding.undisturbed(lambda: run(model), lambda: run(made()), loss_fn.function, model)
    if policy is not None and policy.output == "float32":
        warn_of_half_loss(policy.compute, items)
    written, rest = read_back(static, model, computed, rest)
    if policy is not None:  # in half precision: the master moves by as much as what was read
        moved = lambda new, old, master: master + (new.astype(master.dtype) - old.astype(master.dtype))
        written = map_part(moved, written, computed, params)
    item_weight = batch["weight"] if is_weighted(batch) else None
    is_mean = items.ndim == 0 and item_weight is None
    num = None
    if is_mean:  # a batch that does not tell its examples, such as a graph, trains as one
        num = 1 if train and known_num_examples(batch) is None else num_examples(batch, _OR_ITEMS)
    shape = items.shape
    loss, weight, items, item_weight = weighted_mean(items, item_weight, num)
    if not is_checked:
        how = {"key": key, "train": train, "is_checked": True}
        again = lambda columns: forward(loss_fn, static, params, rest, columns, **how).items
        check_one_value_an_example("the loss", shape, batch, known_num_examples(batch), again)
    return Forward(loss, weight, items, item_weight, aux, rest, written, is_mean)


def weighted_mean(
    items: jax.Array, weight: jax.Array | None, num_examples: int | None = None, what: str = "the loss"
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Reduces a loss by the weight contract: `sum(loss * weight) / sum(weight)`.

    Args:
      items: float array of one loss an example, `(batch,)`, or a token, `(batch, tokens)`; or a scalar.
      weight: of the items' shape or its leading dimensions; None for ones.
      num_examples: examples in the batch: the weight of a loss that is already a scalar, which needs it.
      what: a name of the items, for the texts.

    Returns:
      `(mean, total weight, items, weight of the items' shape or None)`; a total weight of 0 gives 0.

    Raises:
      ValueError: a scalar loss beside a weight, or shapes that do not fit.

    >>> loss, total, *_ = weighted_mean(jnp.array([1.0, 5.0]), jnp.array([1.0, 0.0]))
    >>> float(loss), float(total)
    (1.0, 1.0)
    """
    items = items.astype(jnp.promote_types(items.dtype, jnp.float32))
    if weight is None:
        if items.ndim == 0:
            assert num_examples is not None
            return items, jnp.float32(num_examples), jnp.broadcast_to(items, (num_examples,)), None
        return items.mean(), jnp.float32(items.size), items, None
    if items.ndim == 0:
        raise ValueError(
            f"{what} is a scalar, but the batch has a weight column of shape {weight.shape}: a mean "
            "taken by loss_fn cannot be weighted any more. Return one loss an example: drop the .mean()."
        )
    fitting = [items.shape[: i + 1] for i in range(items.ndim)]
    if weight.shape not in fitting:
        raise ValueError(
            f"batch['weight'] has shape {weight.shape} and {what} {items.shape}. The weight needs the shape "
            f"of {what} or its leading dimensions: {' or '.join(map(str, fitting))}."
        )
    weight = jnp.asarray(weight, jnp.float32).reshape(weight.shape + (1,) * (items.ndim - weight.ndim))
    weight = jnp.broadcast_to(weight, items.shape)
    total = weight.sum()
    # an item of weight 0 must not bring its NaN along
    summed = jnp.sum(jnp.where(weight == 0, 0, items) * weight)
    return summed / jnp.where(total == 0, 1, total), total, items, weight


def is_weighted(batch: Batch) -> bool:
    """Whether a batch has a weight column.

    Raises:
      TypeError: it has one that is no array, such as a list.
    """
    weight = batch.get("weight") if isinstance(batch, Mapping) else None
    if isinstance(weight, str | bytes):
        raise TypeError(
            f"batch['weight'] is {weight!r}, a text. Give a number an example, such as "
            "np.ones(batch_size, np.float32)."
        )
    if weight is not None and not hasattr(weight, "shape"):
        raise TypeError(
            f"batch['weight'] is {a_type(weight)}, which is no array. Use np.asarray(batch['weight'])."
        )
    return weight is not None


def updated_metrics(metrics: Metric | None, batch: Batch, seen: Forward) -> Metric | None:
    """The metrics after one batch; None stays None.

    A name in aux goes before a batch column of the same name.
    """
    if metrics is None:
        return None
    if seen.is_mean:
        num_examples(batch, _OR_ITEMS)  # a mean of an unknown number of examples cannot be weighed
    columns = {k: v for k, v in batch.items() if k != "weight"} if isinstance(batch, Mapping) else {}
    aux = seen.aux if isinstance(seen.aux, Mapping) else {}
    # As the batch has it, not spread over the tokens of the loss: a metric may have one value an example.
    weight = batch["weight"] if is_weighted(batch) else None
    return metrics.update(weight=weight, **{**columns, **aux, "loss": seen.items})
