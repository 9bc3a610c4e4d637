"""Exact evaluation and prediction: every example once, in one compiled program."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.sharding import Mesh, SingleDeviceSharding

from fourbeat.beats.assembling import Beats
from fourbeat.beats.state import TrainState, host_values
from fourbeat.compiling.blocks import Block
from fourbeat.data.batch import Batch
from fourbeat.data.batches import Batches
from fourbeat.data.placement import place_beside
from fourbeat.data.plain_batches import count_examples, one_pass
from fourbeat.metrics import Collection, Mean, Metric
from fourbeat.metrics.nothing_seen import warn_of_nothing_seen
from fourbeat.shard.laying_out import mesh_sharding
from fourbeat.shard.meshes import checked_mesh
from fourbeat.shard.rows import evaluated_in_shares, placed, predicted_in_shares
from fourbeat.trees.buffers import copied, settled
from fourbeat.trees.donation import explaining_used_up
from fourbeat.trees.flat import Flat
from fourbeat.trees.jaxprs import has_convolution
from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import Batch as AnyBatch
from fourbeat.types import BatchSource, Object, Rest, Tree

_MANY_BYTES = 2**18  # of totals that are donated
# batches of one call, and bytes of those on the host: one call takes as long as many batches of a small model
_FUSED, _FUSED_BYTES = 256, 2**20
# so many outputs are computed before they are read, or more if they are small: each wait costs time
_UNDERWAY, _UNDERWAY_BYTES = 8, 2**24
# what neither evaluation nor prediction reads: leaving it out keeps each call small
_UNUSED: dict[str, Any] = dict.fromkeys(("opt_state", "metrics", "ema", "loss_scale", "guard"))


def evaluator(
    beats: Beats, metrics: Object = None, *, carry: bool = False, key: int | jax.Array | None = None
) -> Callable[[TrainState, Iterable[Any]], dict]:
    """A function that scores a state on held-out batches.

    Args:
      beats: from `four_beats`; its loss function runs in evaluation mode.
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

    >>> import jax.numpy as jnp, optax, fourbeat as fb
    >>> beats = fb.four_beats(lambda model, batch: batch["x"] * model["w"], optax.sgd(0.1))
    >>> evaluate = evaluator(beats)
    >>> batches = fb.data.Arrays(x=jnp.arange(5.0)).batches(2)
    >>> evaluate(beats.init({"w": jnp.ones(())}), batches)
    {'loss': 2.0}
    """
    key, default = _typed(key), Collection(loss=Mean("loss"))

    def eval_step(
        state: TrainState, rest: Rest, batch: Batch, totals: Flat, index: Object
    ) -> tuple[Any, Any]:
        options = {} if key is None else {"key": jax.random.fold_in(key, index)}
        if not carry:
            return None, Flat.of(beats.eval_step(state, batch, totals.tree(), **options))
        state = dataclasses.replace(state, rest=rest)
        state, after = beats.eval_step(state, batch, totals.tree(), carry=True, **options)
        return settled(state.rest), Flat.of(after)

    programs, zeros = _Programs(eval_step, evaluated_in_shares), _Zeros()

    @explaining_used_up
    def evaluate(state: TrainState, batches: Iterable[Any]) -> dict:
        chosen = state.metrics if metrics is None else metrics
        totals, donates = zeros.of(default if chosen is None else chosen)
        if not isinstance(state.numbers.sharding, SingleDeviceSharding):
            # else the first call's totals lie elsewhere than the later ones, which compiles twice
            totals = place_beside(totals, state.numbers)
        bare, rest = _bare(state, carry)
        mesh = _mesh_of(state)
        step, leaves = programs.of(bare, donates=donates, mesh=mesh)
        number = lambda index: None if key is None else np.int32(index)
        if (fusing := _fusing(batches, state)) is not None:
            fused = programs.fused(step, (leaves, rest, fusing[0][0], totals, number(0)), _looped)
            if fused is not None:
                for start, block in _blocks(*fusing):
                    rest, totals = fused(leaves, rest, block, totals, number(start))
                return _scores(totals.tree())
        for index, (batch, _) in enumerate(_all_of(batches, "evaluation would miss", "evaluate")):
            rest, totals = step(leaves, rest, placed(batch, mesh), totals, number(index))
        return _scores(totals.tree())

    return evaluate


def _scores(metric: Metric) -> dict:
    scores = host_values(metric.compute())
    warn_of_nothing_seen(metric, scores, stacklevel=4)  # beside this one, of `evaluate` and its decorator
    return scores


class _Zeros:
    """Totals of nothing, kept for the next evaluation by the same metric.

    To make them takes as long as several batches of a small model.
    """

    def __init__(self) -> None:
        self._kept: tuple[Object, Flat] | None = None

    def of(self, metric: Metric) -> tuple[Flat, bool]:
        """The totals, and whether a program may take their buffers. Those are not kept."""
        kept = self._kept
        if kept is not None and kept[0] is metric:
            return kept[1], False
        totals = Flat.of(metric.reset())
        donates = sum(leaf.nbytes for leaf in totals.leaves) > _MANY_BYTES
        self._kept = None if donates else (metric, totals)
        return totals, donates


class _Programs:
    """A step that reads a state again and again, compiled over its leaves: a tree costs time at each call.

    Args:
      step: `(state, rest, batch, ...) -> (rest, out)`, to which `rest` is donated.
      in_shares: makes of `step` and a mesh a step with its rows split.
    """

    def __init__(self, step: Callable[..., tuple[Any, Any]], in_shares: Callable[..., Any]):
        self._step = step
        self._in_shares = in_shares
        self._programs: dict[Any, Callable[..., tuple[Any, Any]]] = {}
        self._fused: dict[Any, Callable[..., tuple[Any, Any]] | None] = {}

    def of(
        self, state: TrainState, *, donates: bool = False, mesh: Mesh | None = None
    ) -> tuple[Callable[..., tuple[Any, Any]], list]:
        """The compiled step for states of this structure, and the leaves of this one.

        Args:
          state: the state to read.
          mesh: over which the rows of each batch are split; None for one device.
          donates: whether the argument after the batch, the totals, is donated. This pays for large totals;
            for small ones it costs more than a new buffer.
        """
        leaves, structure = jax.tree.flatten(state)
        key = structure, donates, mesh
        if key not in self._programs:
            over = self._step if mesh is None else self._in_shares(self._step, mesh)

            def step(leaves: list, *args: Any) -> tuple[Any, Any]:
                return over(structure.unflatten(leaves), *args)

            step.__name__ = self._step.__name__
            self._programs[key] = jax.jit(step, donate_argnums=(1, 3) if donates else 1)
        return self._programs[key], leaves

    def fused(
        self, step: Any, args: tuple, looped: Callable[[Any, tuple], Any]
    ) -> Callable[..., tuple[Any, Any]] | None:
        """The step over a `Block`, in a program that loops; None if that is slow or impossible.

        Args:
          step: from `of`.
          args: the arguments of its first call. They are traced once, for both.
          looped: makes the program of the trace and of these arguments, or None.
        """
        kind = step, *_form(args)  # a trace that is there already takes as long to find as many batches
        if kind not in self._fused:
            traced = step.trace(*args)
            is_slow = jax.default_backend() == "cpu" and has_convolution(traced.jaxpr.jaxpr)
            self._fused[kind] = None if is_slow else looped(traced, args)
        return self._fused[kind]


def _looped(traced: Any, args: tuple) -> Callable[..., tuple[Any, Any]] | None:
    """An evaluation of several batches, which hands on the totals."""
    carried = args[1], args[3]
    if _form(traced.out_info) != _form(carried):
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


def _form(tree: Tree) -> tuple[Any, tuple]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


def _mapped(traced: Any, args: tuple) -> Callable[..., tuple[Any, Any]] | None:
    """A prediction of several batches, which keeps the outputs of each."""
    (rest_after, outputs), num_examples = traced.out_info, count_examples(args[2])
    are_entries = all(leaf.shape[:1] == (num_examples,) for leaf in jax.tree.leaves(outputs))
    if not are_entries or _form(rest_after) != _form(args[1]):
        return None
    run, structure = core.jaxpr_as_fun(traced.jaxpr), jax.tree.structure(traced.out_info)

    def predict_step(leaves: list, rest: Rest, block: Block) -> tuple[Any, Any]:
        def one(i: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            rest, held = carry
            rest, outputs = structure.unflatten(run(*jax.tree.leaves((leaves, rest, block.take(i)))))
            put = lambda of_all, of_one: jax.lax.dynamic_update_index_in_dim(of_all, of_one, i, 0)
            return rest, jax.tree.map(put, held, outputs)

        held = jax.tree.map(lambda leaf: jnp.zeros((block.size, *leaf.shape), leaf.dtype), outputs)
        return jax.lax.fori_loop(0, block.num_steps, one, (settled(rest), held))

    return jax.jit(predict_step, donate_argnums=1)


def _fusing(batches: BatchSource, state: TrainState) -> tuple[Batches, int] | None:
    """The batches and how many of them go in one call; None where each goes alone.

    A few numbers stand for a batch that lies on the device. Of batches on the host one call takes as many as
    are small together.
    """
    if not (isinstance(batches, Batches) and batches.is_read_at_once and batches.is_of_one_shape):
        return None
    if batches.dropped or not isinstance(state.numbers.sharding, SingleDeviceSharding):
        return None
    most = len(batches) if batches.resident else int(_FUSED_BYTES // max(batches.batch_bytes, 1))
    return (batches, min(_FUSED, most)) if most > 1 else None


def _blocks(batches: Batches, size: int) -> Iterator[tuple[int, Block]]:
    """All batches in blocks of `size`, each with the number of its first batch."""
    for start in range(0, len(batches), size):
        num_steps = min(size, len(batches) - start)
        yield start, Block(batches.stacked(start, num_steps, size), np.int32(num_steps))


def predictor(beats: Beats, *, carry: bool = False) -> Callable[[TrainState, Iterable[Any]], Any]:
    """A function that computes the outputs for every example of some batches, in their order.

    Args:
      beats: from `four_beats(..., predict=)`, which needs no labels; it runs in evaluation mode.
      carry: whether what the forward pass writes to the model's variables goes on to the next batch, as in
        `evaluator`.

    Returns:
      `predict(state, batches) -> outputs`, NumPy arrays with the entries of all batches one after the other;
      batches in another order, such as `fourbeat.data.by_length`, give them in the order of the data. What
      pads a short batch is left out. It compiles once for each shape of a batch.

    Raises:
      TypeError: when called, where `batches` is not many batches, or one of them is no dict of arrays.
      ValueError: when called, where `batches` leaves examples out, repeats or shuffles them or is empty, or
        an output does not have one value an example, or has another shape in another batch.

    >>> import jax.numpy as jnp, optax, fourbeat as fb
    >>> beats = fb.four_beats(
    ...     lambda model, batch: batch["x"] * model["w"],
    ...     optax.sgd(0.1),
    ...     predict=lambda model, batch: batch["x"] * model["w"],
    ... )
    >>> predict = predictor(beats)
    >>> predict(beats.init({"w": jnp.ones(())}), fb.data.Arrays(x=jnp.arange(5.0)).batches(2)).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """

    def predict_step(state: TrainState, rest: Rest, batch: Batch) -> tuple[Any, Any]:
        if not carry:
            return None, beats.predict_step(state, batch)
        state = dataclasses.replace(state, rest=rest)
        outputs, state = beats.predict_step(state, batch, carry=True)
        return settled(state.rest), outputs

    programs = _Programs(predict_step, predicted_in_shares)

    @explaining_used_up
    def predict(state: TrainState, batches: Iterable[Any]) -> Any:
        if getattr(batches, "shuffle", False):
            raise ValueError(
                "these batches are shuffled, so the entries of a prediction would be in another order than "
                "the data's. Use batches(..., shuffle=False)."
            )
        places = batches.places() if isinstance(batches, Batches) else None
        bare, rest = _bare(state, carry)
        parts, underway, most = [], deque(), 0
        for outputs, num_steps, num_examples, real in _outputs(
            programs, bare, rest, batches, _mesh_of(state)
        ):
            underway.append((outputs, num_steps, num_examples, real))
            if not most:
                num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(outputs))
                most = max(_UNDERWAY, _UNDERWAY_BYTES // max(num_bytes, 1))
            if len(underway) > most:  # read while the device computes the next
                parts.append(_on_the_host(*underway.popleft()))
        parts += [_on_the_host(*each) for each in underway]
        form = parts[0][1]
        outputs = form.unflatten(
            [_concatenated(*entries) for entries in zip(*(each for each, _ in parts), strict=True)]
        )
        return outputs if places is None else jax.tree.map(lambda entries: entries[places], outputs)

    return predict


def _mesh_of(state: TrainState) -> Mesh | None:
    found = mesh_sharding(state.numbers)
    return None if found is None else checked_mesh(found.mesh)


def _outputs(
    programs: _Programs, bare: TrainState, rest: Rest, batches: BatchSource, mesh: Mesh | None
) -> Iterator[tuple[Tree, int | None, int, slice | np.ndarray | None]]:
    """What each call gives, for how many batches (None: for one, not stacked), and how to read it."""
    step, leaves = programs.of(bare, mesh=mesh)
    if (fusing := _fusing(batches, bare)) is not None:
        fused = programs.fused(step, (leaves, rest, fusing[0][0]), _mapped)
        if fused is not None:
            for _, block in _blocks(*fusing):
                rest, outputs = fused(leaves, rest, block)
                num_steps, weight = int(block.num_steps), block.batch.padding_weight
                real = None if weight is None else np.ravel(weight[:num_steps]) > 0
                yield outputs, num_steps, num_steps * block.batch.num_examples, real
            return
    for batch, num_real in _all_of(batches, "prediction would miss", "predict"):
        rest, outputs = step(leaves, rest, placed(batch, mesh))
        yield outputs, None, count_examples(batch), _real_ones(batch, num_real)


def _concatenated(*entries: np.ndarray) -> np.ndarray:
    for other in entries:
        if other.shape[1:] != entries[0].shape[1:]:
            raise ValueError(
                f"predict returned arrays of shape {entries[0].shape} for one batch and {other.shape} for "
                "another. Return what does not depend on the length of a batch, or pad all to one length."
            )
    return np.concatenate(entries)


def _bare(state: TrainState, carry: bool) -> tuple[TrainState, Any]:
    """What the steps read of a state; and `rest` in buffers of its own, where it goes from batch to batch."""
    bare = dataclasses.replace(state, **_UNUSED)
    return (dataclasses.replace(bare, rest=None), copied(state.rest)) if carry else (bare, None)


def _all_of(batches: BatchSource, would_miss: str, to_do: str) -> Iterator[tuple[Any, int | None]]:
    dropped = getattr(batches, "dropped", 0)
    if dropped:
        raise ValueError(
            f"{would_miss} {dropped} examples: these batches drop what does not fill the last "
            "one. Use batches(..., remainder='pad'); padding counts nothing."
        )
    each = None
    for each in one_pass(batches):
        yield each
    if each is None:
        raise ValueError(f"there is nothing to {to_do}: batches gave no batch at all.")


def _real_ones(batch: AnyBatch, num_real: int | None) -> slice | np.ndarray | None:
    """The examples of a batch that are no padding; None for all."""
    if num_real is not None:
        return slice(num_real)
    if not isinstance(batch, Batch) or batch.padding_weight is None:
        return None
    weight = np.asarray(batch.padding_weight)
    return None if weight[-1] > 0 else weight > 0  # padding comes last


def _on_the_host(
    outputs: Tree, num_steps: int | None, num_examples: int, real: slice | np.ndarray | None
) -> tuple[list[np.ndarray], Any]:
    """The outputs of the examples that are no padding."""
    leaves, form = jax.tree.flatten(outputs)
    entries = [np.asarray(leaf) for leaf in leaves]
    if num_steps is not None:
        entries = [entry[:num_steps].reshape(num_examples, *entry.shape[2:]) for entry in entries]
    for entry in entries:
        if entry.shape[:1] != (num_examples,):
            raise _no_entries(outputs, num_examples)
    return entries if real is None else [entry[real] for entry in entries], form


def _no_entries(outputs: Tree, num_examples: int) -> ValueError:
    place, shape = next(
        (place, leaf.shape)
        for place, leaf in leaves_with_paths(outputs, "outputs")
        if leaf.shape[:1] != (num_examples,)
    )
    return ValueError(
        f"predict returned {place} of shape {shape} for a batch of {num_examples} "
        "examples. Return arrays of one entry an example."
    )


def _typed(key: int | jax.Array | None) -> jax.Array | None:
    if key is None or isinstance(key, int):
        return None if key is None else jax.random.key(key)
    key = jnp.asarray(key)
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if is_typed else jax.random.wrap_key_data(key)
