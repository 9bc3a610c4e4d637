"""One forward and one backward pass, with numbers of weight 0 kept out."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fourbeat.beats.bad_numbers import select_whole
from fourbeat.beats.loss import Forward, LossFunction, forward, is_weighted
from fourbeat.beats.state import TrainState
from fourbeat.precision.precision_warnings import warn_of_wide_products
from fourbeat.trees.paths import map_part
from fourbeat.types import Batch, Object, Params, Rest


def differentiated(
    loss_fn: LossFunction,
    state: TrainState,
    params: Params,
    rest: Rest,
    batch: Batch,
    *,
    key: jax.Array | None,
    share: jax.Array | None = None,
) -> tuple[Params, Forward]:
    """The gradients of a batch's mean loss, and what its forward pass gave.

    Args:
      loss_fn: the loss.
      state: for its model and loss scale.
      params: what is differentiated.
      rest: the other variables before the pass.
      batch: columns of a batch or microbatch.
      key: for a loss function that takes one.
      share: what the mean loss is multiplied by before it is differentiated; None for 1.

    Returns:
      `(grads, seen)`; the gradients are as large as the loss scale makes them. A batch of weight 0 leaves
      `seen.rest` and `seen.written` as they were; where it is a share of a larger batch, its gradients are 0.
    """
    batch = without_masked_numbers(loss_fn, state, params, rest, batch, key)

    def objective(params: Params) -> tuple[jax.Array, Forward]:
        seen = forward(loss_fn, state.static, params, rest, batch, key=key, train=True)
        loss = seen.loss if share is None else seen.loss * share
        return loss if state.loss_scale is None else loss * state.loss_scale.scale, seen

    policy, is_module = loss_fn.policy, state.static.is_module
    unmet = None if policy is None or is_module else partial(warn_of_wide_products, policy.compute)
    gradient = loss_fn.with_wide_sums(jax.value_and_grad(objective, has_aux=True), unmet)
    (_, seen), grads = gradient(params)
    if not is_weighted(batch):
        return grads, seen
    has_weight = seen.weight != 0
    unwritten = map_part(lambda _, param: param, seen.written, params)
    after, before = (seen.rest, seen.written), (rest, unwritten)
    rest, written = select_whole(has_weight, after, before)
    if share is not None:
        grads = jax.tree.map(lambda grad: jnp.where(has_weight, grad, 0), grads)
    return grads, seen._replace(rest=rest, written=written)


class _Found(NamedTuple):
    column: jax.Array
    of_examples: jax.Array
    of_items: jax.Array | None


def without_masked_numbers(
    loss_fn: LossFunction, state: TrainState, params: Params, rest: Rest, batch: Batch, key: jax.Array | None
) -> Batch:
    """The batch with 0 in place of every NaN and Inf that stands where the weight is 0.

    A weight of 0 makes the gradient of a loss 0, and 0 times NaN is NaN on the way back to the parameters.
    So such a number must not enter the forward pass: a `where` after it comes too late.

    In an example whose whole weight is 0 every number can go. Where some items (tokens, tasks) of it count,
    a column whose leading axes are those of the weight is taken for one with a value an item, as targets are;
    it may as well be features, which every item of the example reads. So the NaNs and Infs of such
    an example are replaced only if all items that count come out finite without that. Such a step costs one
    more forward pass.

    Returns:
      Columns of the same shapes and dtypes; a batch without a weight as it is.
    """
    if not is_weighted(batch) or jnp.size(batch["weight"]) <= 1:
        return batch

    def items_are_good(batch: dict) -> jax.Array:
        seen = forward(loss_fn, state.static, params, rest, batch, key=key, train=True)
        return (jnp.isfinite(seen.items) | (seen.item_weight == 0)).all()

    return _cleared(batch, items_are_good)


def _cleared(batch: dict[str, Any], items_are_good: Callable[[dict], jax.Array]) -> dict:
    weight = jnp.asarray(batch["weight"])
    is_idle = weight == 0
    example_is_idle = is_idle.reshape(weight.shape[0], -1).all(1)

    def find(column: Object) -> _Found | None:
        column = jnp.asarray(column)
        if not jnp.issubdtype(column.dtype, jnp.inexact) or column.shape[:1] != weight.shape[:1]:
            return None
        bad = ~jnp.isfinite(column)
        of_examples = bad & _along(example_is_idle, column)
        has_items = weight.ndim > 1 and column.shape[: weight.ndim] == weight.shape
        return _Found(column, of_examples, bad & _along(is_idle, column) if has_items else None)

    columns = {name: column for name, column in batch.items() if name != "weight"}
    found = jax.tree.map(find, columns)
    is_found = lambda node: node is None or isinstance(node, _Found)

    def cleared(also_items: jax.Array | bool) -> dict:
        def clear(column: Object, seen: _Found | None) -> Any:
            if seen is None:
                return column
            idle = (
                seen.of_examples if seen.of_items is None else seen.of_examples | (seen.of_items & also_items)
            )
            return jnp.where(idle, jnp.zeros((), seen.column.dtype), seen.column)

        return {**jax.tree.map(clear, columns, found), "weight": batch["weight"]}

    in_doubt = [
        (seen.of_items & ~seen.of_examples).any()
        for seen in jax.tree.leaves(found, is_leaf=is_found)
        if seen is not None and seen.of_items is not None
    ]
    if not in_doubt:
        return cleared(False)
    asked = jnp.stack(in_doubt).any()
    return cleared(lax.cond(asked, lambda: items_are_good(cleared(False)), lambda: jnp.bool_(False)))


def _along(of_leading: jax.Array, column: jax.Array) -> jax.Array:
    """Values of the leading axes for every value of a column."""
    missing = column.ndim - of_leading.ndim
    return of_leading.reshape(of_leading.shape + (1,) * missing)
