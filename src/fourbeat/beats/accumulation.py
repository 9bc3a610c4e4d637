"""Accumulation: the gradient of one batch from several microbatches, in the memory of one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fourbeat.beats.bad_rows import rows_with_bad_items
from fourbeat.beats.batch_statistics import warn_of_unmasked_padding
from fourbeat.beats.convolutions import has_convolution
from fourbeat.beats.differentiation import differentiated
from fourbeat.beats.loss import LossFunction, forward
from fourbeat.beats.metering import measured
from fourbeat.beats.microbatches import cut, shares
from fourbeat.beats.options import Options
from fourbeat.beats.state import TrainState
from fourbeat.trees.buffers import settled
from fourbeat.trees.paths import map_part, overlaid


def accumulated(
    loss_fn: LossFunction, options: Options, state: TrainState, batch: Any, *, key: jax.Array | None
) -> tuple[Any, tuple[jax.Array, jax.Array, Any, Any, dict], jax.Array]:
    """The gradient of the whole batch's weighted mean, one microbatch at a time.

    The microbatches are consecutive rows. The other variables, the metrics and the parameters
    that the forward pass writes go from each to the next; the key of the i-th is `fold_in(key, i)`.
    Gradients are summed in float32 at least.

    Returns:
      `(grads, (loss, weight, rest, metrics, written), bad_items)` of the whole batch.
    """
    microbatches = cut(batch, options.accumulate)
    xs = (jnp.arange(options.accumulate), microbatches, shares(microbatches, options.accumulate))
    warn_of_unmasked_padding(loss_fn, state, _at(microbatches, 0), key)

    def add(carry: tuple, x: tuple) -> tuple[tuple, jax.Array]:
        grads, loss, weight, rest, metrics, written = carry
        index, microbatch, share = x
        micro_key = None if key is None else jax.random.fold_in(key, index)
        params = overlaid(state.params, written)
        more, seen = differentiated(loss_fn, state, params, rest, microbatch, key=micro_key, share=share)
        grads = jax.tree.map(lambda total, g: total + g.astype(total.dtype), grads, more)
        metrics = measured(metrics, microbatch, seen)
        loss, weight = loss + share * seen.loss, weight + seen.weight
        return settled((grads, loss, weight, seen.rest, metrics, seen.written)), rows_with_bad_items(seen)

    zero = jnp.zeros((), jnp.float32)
    carry = (
        jax.tree.map(_empty_sum, state.params), zero, zero, state.rest, state.metrics,
        _to_be_written(loss_fn, state, _at(microbatches, 0), key),
    )  # fmt: skip
    if _is_rolled(options, add, carry, xs):
        carry, bad_items = lax.scan(add, settled(carry), xs)
    else:
        carry, bad_items = _unrolled(add, settled(carry), xs, always=state.step >= 0)
    grads, loss, weight, rest, metrics, written = carry
    grads = jax.tree.map(lambda g, param: g.astype(param.dtype), grads, state.params)
    return grads, (loss, weight, rest, metrics, written), bad_items.reshape(-1)


def _to_be_written(loss_fn: LossFunction, state: TrainState, batch: Any, key: jax.Array | None) -> dict:
    """Those parameters that the forward pass writes, as they are before it."""
    look = lambda params, rest: forward(loss_fn, state.static, params, rest, batch, key=key, train=True)
    written = jax.eval_shape(look, state.params, state.rest).written
    return map_part(lambda _, param: param, written, state.params)


def _empty_sum(param: jax.Array) -> jax.Array:
    return jnp.zeros(param.shape, jnp.promote_types(param.dtype, jnp.float32))


def _is_rolled(options: Options, add: Callable, carry: tuple, xs: tuple) -> bool:
    """XLA runs convolutions in a loop body on CPU about ten times slower (jax issue 12868)."""
    if options.rolled is not None:
        return options.rolled
    if jax.default_backend() != "cpu":
        return True
    return not has_convolution(add, carry, _at(xs, 0))


def _unrolled(add: Callable, carry: tuple, xs: tuple, always: jax.Array) -> tuple[tuple, jax.Array]:
    ys = []
    for index in range(xs[0].size):
        x = _at(xs, index)
        if index:
            carry, x = _in_order((carry, x), always)
        carry, y = add(carry, x)
        ys.append(y)
    return carry, jnp.stack(ys)


def _in_order(tree: Any, always: jax.Array) -> Any:
    """The same tree, there only once all of it is: the next microbatch waits for the last one's sums.

    Without it XLA runs all backward passes before it sums their gradients, in the memory of all (76
    instead of 11 MB, mnist-cnn in 16 microbatches). On CPU it drops an `optimization_barrier` before it
    schedules, so there the barrier is a conditional whose condition only a run can tell.
    """
    if jax.default_backend() != "cpu":
        return lax.optimization_barrier(tree)
    return lax.cond(always, lambda tree: tree, lambda tree: jax.tree.map(jnp.zeros_like, tree), tree)


def _at(xs: tuple, index: int) -> tuple:
    return jax.tree.map(lambda leaf: leaf[index], xs)
