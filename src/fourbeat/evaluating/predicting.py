"""Prediction: the outputs of every example, in one compiled program."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.sharding import Mesh

from fourbeat.beats.assembling import Beats
from fourbeat.beats.state import TrainState
from fourbeat.compiling.blocks import Block
from fourbeat.data.batch import Batch
from fourbeat.data.batches import Batches
from fourbeat.data.plain_batches import count_examples
from fourbeat.data.process_batches import is_local
from fourbeat.distributed import barrier, speaks
from fourbeat.evaluating.output_files import check_alike, read_back, written
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
from fourbeat.replicating import Replicas, ReplicasState
from fourbeat.shard.meshes import is_of_processes
from fourbeat.shard.rows import predicted_in_shares
from fourbeat.trees.buffers import settled
from fourbeat.trees.donation import explaining_used_up
from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import Batch as AnyBatch
from fourbeat.types import BatchSource, Rest, Tree

# so many outputs are computed before they are read, or more if they are small: each wait costs time
_UNDERWAY, _UNDERWAY_BYTES = 8, 2**24


def predictor(beats: Beats | Replicas, *, carry: bool = False) -> Callable[..., Any]:
    """A function that computes the outputs for every example of some batches, in their order.

    Args:
      beats: from `four_beats(..., predict=)`, which needs no labels; it runs in evaluation mode. From
        `replicas`, each output has the axes (examples, members, ...).
      carry: whether what the forward pass writes to the model's variables goes on to the next batch, as in
        `evaluator`.

    Returns:
      `predict(state, batches) -> outputs`, NumPy arrays with the entries of all batches one after the other;
      batches in another order, such as `fourbeat.data.by_length`, give them in the order of the data. What
      pads a short batch is left out. It compiles once for each shape of a batch. With
      `predict(state, batches, out="scores.npy")` the entries go to a file as they come, in the memory of a
      few batches, and the outputs are arrays that are read from it when they are used; for several arrays
      `out` is a new folder with a file for each. A file is there when it is whole, in place of an earlier
      one.

    Raises:
      TypeError: when called, where `batches` is not many batches, or one of them is no dict of arrays.
      ValueError: when called, where `batches` leaves examples out, repeats or shuffles them or is empty, or
        an output does not have one value an example, has another shape in another batch, or does not fit
        `out`.

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

    def predict_step(state: Any, rest: Rest, batch: Batch) -> tuple[Any, Any]:
        if not carry:
            return None, beats.predict_step(state, batch)
        state = with_rest(state, rest)
        outputs, state = beats.predict_step(state, batch, carry=True)
        return settled(rest_of(state)), outputs

    programs = Programs(predict_step, predicted_in_shares)

    @explaining_used_up
    def predict(
        state: TrainState | ReplicasState,
        batches: Iterable[Any],
        *,
        out: str | os.PathLike[str] | None = None,
    ) -> Any:
        if getattr(batches, "shuffle", False):
            raise ValueError(
                "these batches are shuffled, so the entries of a prediction would be in another order than "
                "the data's. Use batches(..., shuffle=False)."
            )
        if is_local(batches):
            raise ValueError(
                "these batches are local, so the entries of a prediction would be in the order of no data. "
                "Use batches by number, fourbeat.data.Examples(source).batches(...), or "
                "fourbeat.data.global_batches(...)."
            )
        places = batches.places() if isinstance(batches, Batches) else None
        bare, rest = what_is_read(state, carry)
        mesh = mesh_of(state)
        parts = _read_behind(_outputs(programs, bare, rest, batches, mesh))
        if out is not None:
            is_shared = mesh is not None and is_of_processes(mesh)
            return (_written_once if is_shared else written)(parts, out, places)
        parts = list(parts)
        form = parts[0][1]
        outputs = form.unflatten(
            [_concatenated(*entries) for entries in zip(*(each for each, _ in parts), strict=True)]
        )
        return outputs if places is None else jax.tree.map(lambda entries: entries[places], outputs)

    return predict


def _written_once(
    parts: Iterator[tuple[list[np.ndarray], Any]], out: str | os.PathLike[str], places: np.ndarray | None
) -> Tree:
    """`written`, by process 0 alone; every process computes, and reads the files then."""
    if speaks():
        outputs = written(parts, out, places)
        barrier("predicted")
        return outputs
    form = deque(parts, maxlen=1)[0][1]
    barrier("predicted")
    return read_back(out, form)


def _read_behind(outputs: Iterator[tuple]) -> Iterator[tuple[list[np.ndarray], Any]]:
    """What each call gives, on the host: read while the device computes the next ones."""
    underway, most = deque(), 0
    for each in outputs:
        underway.append(each)
        if not most:
            num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(each[0]))
            most = max(_UNDERWAY, _UNDERWAY_BYTES // max(num_bytes, 1))
        if len(underway) > most:
            yield _on_the_host(*underway.popleft())
    while underway:
        yield _on_the_host(*underway.popleft())


def _outputs(
    programs: Programs, bare: Any, rest: Rest, batches: BatchSource, mesh: Mesh | None
) -> Iterator[tuple[Tree, int | None, int, slice | np.ndarray | None]]:
    """What each call gives, for how many batches (None: for one, not stacked), and how to read it."""
    step, leaves = programs.of(bare, mesh=mesh)
    if (fusing := fusable(batches, bare)) is not None:
        fused = programs.fused(step, (leaves, rest, fusing[0][0]), _mapped)
        if fused is not None:
            for _, block in in_blocks(*fusing):
                rest, outputs = fused(leaves, rest, block)
                num_steps, weight = int(block.num_steps), block.batch.padding_weight
                real = None if weight is None else np.ravel(weight[:num_steps]) > 0
                yield outputs, num_steps, num_steps * block.batch.num_examples, real
            return
    for batch, num_real in all_of(batches, "prediction would miss", "predict", mesh):
        rest, outputs = step(leaves, rest, batch)
        yield outputs, None, count_examples(batch), _real_ones(batch, num_real)


def _mapped(traced: Any, args: tuple) -> Callable[..., tuple[Any, Any]] | None:
    """A prediction of several batches, which keeps the outputs of each."""
    (rest_after, outputs), num_examples = traced.out_info, count_examples(args[2])
    are_entries = all(leaf.shape[:1] == (num_examples,) for leaf in jax.tree.leaves(outputs))
    if not are_entries or form_of(rest_after) != form_of(args[1]):
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


def _concatenated(*entries: np.ndarray) -> np.ndarray:
    for other in entries:
        check_alike(entries[0], other)
    return np.concatenate(entries)


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
