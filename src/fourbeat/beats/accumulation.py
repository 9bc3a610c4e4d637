"""Accumulation: the gradient of one batch from several microbatches, in the memory of one."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fourbeat.beats.bad_numbers import examples_with_bad_losses
from fourbeat.beats.differentiation import differentiated
from fourbeat.beats.logged_aux import arrays_of, logged_aux, over_microbatches
from fourbeat.beats.loss import LossFunction, forward, is_weighted, updated_metrics
from fourbeat.beats.options import Options
from fourbeat.beats.shares_alone import shares_alone
from fourbeat.beats.state import TrainState
from fourbeat.beats.statistics import warn_of_unmasked_padding
from fourbeat.shard.meshes import num_row_shares
from fourbeat.shard.rows import constrained_rows, mesh_in_trace
from fourbeat.trees.buffers import settled
from fourbeat.trees.example_counts import common_num_examples, empty, unlike
from fourbeat.trees.jaxprs import has_convolution
from fourbeat.trees.paths import leaves_with_paths, map_part, overlaid
from fourbeat.types import Aux, Batch, Logs, Object, Params, Rest, Tree


def accumulated(
    loss_fn: LossFunction,
    options: Options,
    keeps_aux: bool,
    state: TrainState,
    batch: Batch,
    *,
    key: jax.Array | None,
) -> tuple[Any, tuple[jax.Array, jax.Array, Any, Any, dict, Logs], tuple[jax.Array | None, Aux]]:
    """The gradient of the whole batch's weighted mean, one microbatch at a time.

    The microbatches are consecutive examples; over a mesh, consecutive ones of each device's share, so that
    none changes its device. The other variables, the metrics and the parameters that the forward pass writes
    go from each to the next; the key of the i-th is `fold_in(key, i)`.
    Gradients are summed in float32 at least.

    Returns:
      `(grads, (loss, weight, rest, metrics, written, logged), (bad_losses, aux))` of the whole batch; the
      bad losses are None without a guard, and aux is None unless it is kept.
    """
    mesh = mesh_in_trace()
    num_shares = 1 if mesh is None else num_row_shares(mesh)
    microbatches = cut(batch, options.accumulate, num_shares)
    num_examples = common_num_examples(_at(microbatches, 0))
    microbatches = constrained_rows(microbatches, num_examples or 0, mesh, num_leading=1)
    needs_aux = keeps_aux or state.metrics is not None or bool(options.names_in_aux)
    alone = shares_alone(loss_fn, state, _at(microbatches, 0), key, needs_aux=needs_aux)
    num_alone = None if alone is None else alone.num
    xs = (jnp.arange(options.accumulate), microbatches, shares(microbatches, options.accumulate, num_alone))
    warn_of_unmasked_padding(loss_fn, state, _at(microbatches, 0), key)

    def add(carry: tuple, x: tuple) -> tuple[tuple, tuple[jax.Array | None, Aux]]:
        sums, rest, metrics, written, logged = carry
        index, microbatch, share = x
        microbatch = constrained_rows(microbatch, num_examples or 0, mesh)
        micro_key = None if key is None else jax.random.fold_in(key, index)
        params = overlaid(state.params, written)
        if alone is None:
            more, seen = differentiated(loss_fn, state, params, rest, microbatch, key=micro_key, share=share)
            parts = (more, share * seen.loss, seen.weight)
        else:
            parts, seen = alone(params, rest, microbatch, key=micro_key, share=share)
        sums = jax.tree.map(lambda total, part: total + part.astype(total.dtype), sums, parts)
        metrics = updated_metrics(metrics, microbatch, seen)
        bad_losses = None if options.guard is None else examples_with_bad_losses(seen)
        more = logged_aux(loss_fn, options, state, microbatch, seen, micro_key)
        # as the loss: what a microbatch of no weight gives, even NaN, counts nothing
        share = share if alone is None else share.sum()
        logged = {n: logged[n] + jnp.where(share == 0, 0, share * value) for n, value in more.items()}
        carry = sums, seen.rest, metrics, seen.written, logged
        return settled(carry), (bad_losses, arrays_of(seen.aux) if keeps_aux else None)

    zero = jnp.zeros((), jnp.float32)
    sums = (jax.tree.map(_empty_sum, state.params), zero, zero)
    carry = (
        sums if alone is None else alone.kept_apart(sums), state.rest, state.metrics,
        _to_be_written(loss_fn, state, _at(microbatches, 0), key), dict.fromkeys(options.names_in_aux, zero),
    )  # fmt: skip
    if _is_rolled(options, add, carry, xs):
        carry, (bad_losses, aux) = lax.scan(add, settled(carry), xs)
    else:
        carry, (bad_losses, aux) = _unrolled(add, settled(carry), xs, always=state.step >= 0)
    sums, rest, metrics, written, logged = carry
    grads, loss, weight = sums if alone is None else alone.summed(sums)
    grads = jax.tree.map(lambda g, param: g.astype(param.dtype), grads, state.params)
    in_order = partial(_in_the_order_of_the_batch, num_shares=num_shares)
    bad_losses = None if bad_losses is None else in_order(bad_losses)
    aux = over_microbatches(aux, num_examples, in_order)
    return grads, (loss, weight, rest, metrics, written, logged), (bad_losses, aux)


def _to_be_written(loss_fn: LossFunction, state: TrainState, batch: Batch, key: jax.Array | None) -> dict:
    """Those parameters that the forward pass writes, as they are before it."""

    def look(params: Params, rest: Rest) -> dict:
        return forward(loss_fn, state.static, params, rest, batch, key=key, train=True).written

    written = jax.eval_shape(look, state.params, state.rest)
    return map_part(lambda _, param: param, written, state.params)


def _empty_sum(param: jax.Array) -> jax.Array:
    return jnp.zeros(param.shape, jnp.promote_types(param.dtype, jnp.float32))


def _is_rolled(options: Options, add: Callable, carry: tuple, xs: tuple) -> bool:
    """XLA runs convolutions in a loop body on CPU about ten times slower (jax issue 12868)."""
    if options.rolled is not None:
        return options.rolled
    if jax.default_backend() != "cpu":
        return True
    return not has_convolution(jax.make_jaxpr(add)(carry, _at(xs, 0)).jaxpr)


def _unrolled(add: Callable, carry: tuple, xs: tuple, always: jax.Array) -> tuple[tuple, Any]:
    ys = []
    for index in range(xs[0].size):
        x = _at(xs, index)
        if index:
            carry, x = _in_order((carry, x), always)
        carry, y = add(carry, x)
        ys.append(y)
    return carry, jax.tree.map(lambda *each: jnp.stack(each), *ys)


def _in_order(tree: Tree, always: jax.Array) -> Any:
    """The same tree, made to wait for all of its leaves: the next microbatch starts after these sums.

    Without it XLA runs all backward passes before it sums their gradients, in the memory of all (76
    instead of 11 MB, mnist-cnn in 16 microbatches). On CPU it drops an `optimization_barrier` before it
    schedules, so there the barrier is a conditional whose condition only a run can tell.
    """
    if jax.default_backend() != "cpu":
        return lax.optimization_barrier(tree)
    return lax.cond(always, lambda tree: tree, lambda tree: jax.tree.map(jnp.zeros_like, tree), tree)


def _in_the_order_of_the_batch(values: jax.Array, num_shares: int) -> jax.Array:
    """Values of shape (microbatches, examples, ...) as one for each example of the batch that was cut."""
    entry = values.shape[2:]
    return values.reshape(values.shape[0], num_shares, -1, *entry).swapaxes(0, 1).reshape(-1, *entry)


def _at(xs: tuple, index: int) -> tuple:
    return jax.tree.map(lambda leaf: leaf[index], xs)


def cut(batch: Batch, num_microbatches: int, num_shares: int = 1) -> Tree:
    """The batch with every column cut into consecutive examples: shape (n, examples / n, ...).

    With several shares each of them is cut so, and a microbatch has the examples of all shares.

    Scalars are given to every microbatch.

    Args:
      batch: a pytree of arrays of one leading dimension.
      num_microbatches: at least 1.
      num_shares: into how many consecutive parts the examples are split over devices.

    Raises:
      ValueError: the number of examples does not divide, or columns differ in it. The text names the column.

    >>> cut({"x": jnp.arange(4)}, 2)["x"].tolist()
    [[0, 1], [2, 3]]
    """
    columns = [name for name, leaf in leaves_with_paths(batch, "batch") if jnp.ndim(leaf)]
    if not columns:
        raise ValueError(
            f"cannot split batch into {num_microbatches} microbatches: it holds no array of examples. Give "
            "it columns of one leading dimension, or use accumulate=1."
        )
    num_examples = common_num_examples(batch)
    if num_examples is None:
        raise ValueError(f"cannot split batch into {num_microbatches} microbatches: {unlike(batch)}")
    if num_examples == 0:
        raise empty(batch)
    if num_shares > 1 and num_examples % (num_microbatches * num_shares):
        multiple = num_microbatches * num_shares
        below = num_examples // multiple * multiple
        raise ValueError(
            f"cannot split batch into {num_microbatches} microbatches over {num_shares} shares of a mesh: "
            f"{columns[0]} has {num_examples} examples, which is not a multiple of {multiple}. Use a batch "
            f"size of {f'{below} or ' if below else ''}{below + multiple}."
        )
    if num_examples % num_microbatches:
        divisors = [str(n) for n in range(2, num_examples + 1) if num_examples % n == 0]
        listed = ", ".join(divisors[:8]) + (", ..." if len(divisors) > 8 else "")
        raise ValueError(
            f"cannot split batch into {num_microbatches} microbatches: {columns[0]} has {num_examples} "
            f"examples and {num_examples} is not divisible by {num_microbatches}.\n"
            f"Use accumulate={listed or '1'} or a batch size that is a multiple of {num_microbatches}."
        )

    def divided(leaf: Object) -> jax.Array:
        leaf = jnp.asarray(leaf)
        if leaf.ndim == 0:
            return jnp.broadcast_to(leaf, (num_microbatches,))
        if num_shares > 1:
            leaf = leaf.reshape(num_shares, num_microbatches, -1, *leaf.shape[1:]).swapaxes(0, 1)
            return leaf.reshape(num_microbatches, -1, *leaf.shape[3:])
        return leaf.reshape(num_microbatches, -1, *leaf.shape[1:])

    return jax.tree.map(divided, batch)


def shares(microbatches: Tree, num_microbatches: int, num_alone: int | None = None) -> jax.Array:
    """What share of the whole batch's weight each microbatch holds, float32 (n,).

    The mean of the batch is the sum of the microbatches' means times their shares. Without a weight
    column the shares are equal; where nothing has weight they are all 0.

    Args:
      microbatches: columns of shape (n, examples, ...).
      num_microbatches: n.
      num_alone: into how many parts the examples of each are split once more, for shares (n, num_alone).

    >>> batch = {"x": jnp.ones((2, 2)), "weight": jnp.array([[1.0, 1.0], [1.0, 0.0]])}
    >>> shares(batch, 2).round(3).tolist(), shares(batch, 2, 2).round(3).tolist()
    ([0.667..., 0.333...], [[0.333..., 0.333...], [0.333..., 0.0]])
    """
    shape = (num_microbatches,) if num_alone is None else (num_microbatches, num_alone)
    if not is_weighted(microbatches):
        return jnp.full(shape, 1 / math.prod(shape), jnp.float32)
    weight = microbatches["weight"].astype(jnp.float32).reshape(*shape, -1).sum(-1)
    total = weight.sum()
    return weight / jnp.where(total == 0, 1, total)
