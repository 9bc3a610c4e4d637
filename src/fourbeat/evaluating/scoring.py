"""Exact evaluation: every example once, in one compiled program."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.sharding import SingleDeviceSharding

from fourbeat.beats.assembling import Beats
from fourbeat.beats.state import TrainState
from fourbeat.compiling.blocks import Block
from fourbeat.data.batch import Batch
from fourbeat.data.placement import place_beside
from fourbeat.evaluating.evaluation_time import timed
from fourbeat.evaluating.programs import (
    Programs,
    all_of,
    form_of,
    fusable,
    in_blocks,
    mesh_of,
    rest_of,
    what_is_read,
    with_rest,
)
from fourbeat.metrics import Collection, Mean, Metric
from fourbeat.metrics.host_scores import EVALUATED, read_scores
from fourbeat.replicating import Replicas, ReplicasState
from fourbeat.replicating.replicas_state import of_all_members
from fourbeat.shard.rows import evaluated_in_shares
from fourbeat.trees.buffers import settled
from fourbeat.trees.donation import explaining_used_up
from fourbeat.trees.flat import Flat
from fourbeat.types import Object, Rest, Tree

_MANY_BYTES = 2**18  # of totals that are donated


def evaluator(
    beats: Beats | Replicas,
    metrics: Object = None,
    *,
    carry: bool = False,
    key: int | jax.Array | None = None,
) -> Callable[[Any, Iterable[Any]], dict]:
    """A function that scores a state on held-out batches.

    Args:
      beats: from `four_beats`; its loss function runs in evaluation mode. From `replicas` each score has an
        entry a member.
      metrics: a metric or `Collection`; by default that of the state, or the mean loss.
      carry: whether what the forward pass writes to the model's variables goes on to the next batch, as the
        carry of a recurrent model does. Each evaluation starts from a copy of `state.rest`. Without it each
        batch starts from `state.rest`, and a warning names a write that is lost.
      key: an int or a PRNG key for a loss function that takes one; batch `i` gets `fold_in(key, i)`. Without
        it the loss function's key is None.

    Returns:
      `evaluate(state, batches) -> dict` of Python floats (NumPy arrays where a metric has many values).
      It compiles once; the state and its own metrics stay as they are. Examples of weight 0, such as the
      padding of a short last batch, count nothing.

    Raises:
      TypeError: when called, where `batches` is not many batches, or one of them is no dict of arrays.
      ValueError: when called, where `batches` leaves examples out, or is empty.

    Warns:
      NothingSeenWarning: when called, where all that a metric was given had weight 0: its score is NaN.
      CapacityWarning: when called, where a metric was given more examples than it keeps: its score is NaN.

    >>> import jax.numpy as jnp, optax, fourbeat as fb
    >>> beats = fb.four_beats(lambda model, batch: batch["x"] * model["w"], optax.sgd(0.1))
    >>> evaluate = evaluator(beats)
    >>> batches = fb.data.Arrays(x=jnp.arange(5.0)).batches(2)
    >>> evaluate(beats.init({"w": jnp.ones(())}), batches)
    {'loss': 2.0}
    """
    key, default = _typed(key), Collection(loss=Mean("loss"))

    def eval_step(state: Any, rest: Rest, batch: Batch, totals: Flat, index: Object) -> tuple[Any, Any]:
        options = {} if key is None else {"key": jax.random.fold_in(key, index)}
        if not carry:
            return None, Flat.of(beats.eval_step(state, batch, totals.tree(), **options))
        state = with_rest(state, rest)
        state, after = beats.eval_step(state, batch, totals.tree(), carry=True, **options)
        return settled(rest_of(state)), Flat.of(after)

    programs, zeros = Programs(eval_step, evaluated_in_shares), _Zeros()

    @timed
    @explaining_used_up
    def evaluate(state: TrainState | ReplicasState, batches: Iterable[Any]) -> dict:
        chosen = state.metrics if metrics is None else metrics
        totals, donates = zeros.of(default if chosen is None else chosen, state)
        if not isinstance(state.numbers.sharding, SingleDeviceSharding):
            # else the first call's totals lie elsewhere than the later ones, which compiles twice
            totals = place_beside(totals, state.numbers)
        bare, rest = what_is_read(state, carry)
        mesh = mesh_of(state)
        step, leaves = programs.of(bare, donates=donates, mesh=mesh)
        number = lambda index: None if key is None else np.int32(index)
        if (fusing := fusable(batches, state)) is not None:
            fused = programs.fused(step, (leaves, rest, fusing[0][0], totals, number(0)), _looped)
            if fused is not None:
                for start, block in in_blocks(*fusing):
                    rest, totals = fused(leaves, rest, block, totals, number(start))
                return _scores(totals.tree())
        for index, (batch, _) in enumerate(all_of(batches, "evaluation would miss", "evaluate", mesh)):
            rest, totals = step(leaves, rest, batch, totals, number(index))
        return _scores(totals.tree())

    return evaluate


def _scores(metric: Metric) -> dict:
    return read_scores(metric, EVALUATED, stacklevel=5)  # beside this one, of `evaluate` and its decorators


class _Zeros:
    """Totals of nothing, kept for the next evaluation by the same metric.

    To make them takes as long as several batches of a small model.
    """

    def __init__(self) -> None:
        self._kept: tuple[Object, Flat] | None = None

    def of(self, metric: Any, state: TrainState | ReplicasState) -> tuple[Flat, bool]:
        """The totals, and whether a program may take their buffers. Those are not kept.

        Args:
          metric: for a state of members, that of one of them or of all.
          state: what is to be evaluated.
        """
        metric, kept = of_all_members(metric, state), self._kept
        if kept is not None and kept[0] is metric:
            return kept[1], False
        totals = Flat.of(metric.reset())
        donates = sum(leaf.nbytes for leaf in totals.leaves) > _MANY_BYTES
        self._kept = None if donates else (metric, totals)
        return totals, donates


def _looped(traced: Any, args: tuple) -> Callable[..., tuple[Any, Any]] | None:
    """An evaluation of several batches, which hands on the totals."""
    carried = args[1], args[3]
    if form_of(traced.out_info) != form_of(carried):
        return None
    run, structure = core.jaxpr_as_fun(traced.jaxpr), jax.tree.structure(carried)

    def eval_step(leaves: list, rest: Rest, block: Block, totals: Tree, start: Any) -> tuple[Any, Any]:
        def one(i: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            rest, totals = carry
            index = None if start is None else start + i
            out = run(*jax.tree.leaves((leaves, rest, block.take(i), totals, index)))
            return structure.unflatten(out)

        return jax.lax.fori_loop(0, block.num_steps, one, settled((rest, totals)))

    return jax.jit(eval_step, donate_argnums=1)


def _typed(key: int | jax.Array | None) -> jax.Array | None:
    if key is None or isinstance(key, int):
        return None if key is None else jax.random.key(key)
    key = jnp.asarray(key)
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if is_typed else jax.random.wrap_key_data(key)
