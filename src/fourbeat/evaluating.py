"""Exact evaluation and prediction: every example once, in one compiled program."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from fourbeat.beats.assembling import Beats
from fourbeat.beats.state import TrainState, host_values
from fourbeat.data.batch import Batch
from fourbeat.data.batches import Batches
from fourbeat.data.placement import place_beside
from fourbeat.data.plain_batches import count_examples, one_pass
from fourbeat.metrics import Collection, Mean
from fourbeat.trees.buffers import copied, settled
from fourbeat.trees.donation import explaining_used_up
from fourbeat.trees.paths import leaves_with_paths

# what neither evaluation nor prediction reads: leaving it out keeps each call small
_UNUSED: dict[str, Any] = dict.fromkeys(("opt_state", "metrics", "ema", "loss_scale", "guard"))


def evaluator(
    beats: Beats, metrics: Any = None, *, carry: bool = False, key: int | jax.Array | None = None
) -> Callable[[TrainState, Iterable[Any]], dict]:
    """A function that scores a state on held-out batches.

    Args:
      beats: from `four_beats`; its loss function runs in evaluation mode.
      metrics: a metric or `Collection`; by default that of the state, or the mean loss.
      carry: whether what the forward pass writes to the model's variables goes on to the next batch, as the
        carry of a recurrent model does. Each evaluation starts from a copy of `state.rest`. Without it each
        batch starts there, and a write that is lost is warned of.
      key: an int or a PRNG key for a loss function that takes one; batch `i` gets `fold_in(key, i)`. Without
        it the loss function's key is None.

    Returns:
      `evaluate(state, batches) -> dict` of Python floats (NumPy arrays where a metric has many values).
      It compiles once; the state and its own metrics stay as they are. Examples of weight 0, such as the
      padding of a short last batch, count nothing.

    Raises:
      TypeError: when called, where `batches` is not many batches, or one of them is no dict of arrays.
      ValueError: when called, where `batches` leaves examples out, or is empty.

    >>> import jax.numpy as jnp, optax, fourbeat as fb
    >>> beats = fb.four_beats(lambda model, batch: batch["x"] * model["w"], optax.sgd(0.1))
    >>> evaluate = evaluator(beats)
    >>> batches = fb.data.Arrays(x=jnp.arange(5.0)).batches(2)
    >>> evaluate(beats.init({"w": jnp.ones(())}), batches)
    {'loss': 2.0}
    """
    key = _typed(key)

    def eval_step(state: TrainState, rest: Any, batch: Any, totals: Any, index: Any) -> tuple[Any, Any]:
        options = {} if key is None else {"key": jax.random.fold_in(key, index)}
        if not carry:
            return None, beats.eval_step(state, batch, totals, **options)
        state = dataclasses.replace(state, rest=rest)
        state, totals = beats.eval_step(state, batch, totals, carry=True, **options)
        return settled(state.rest), totals

    step = jax.jit(eval_step, donate_argnums=(1, 3))

    @explaining_used_up
    def evaluate(state: TrainState, batches: Iterable[Any]) -> dict:
        chosen = state.metrics if metrics is None else metrics
        totals = (Collection(loss=Mean("loss")) if chosen is None else chosen).reset()
        if not isinstance(state.numbers.sharding, SingleDeviceSharding):
            # the first call's totals would lie elsewhere than those of the others: a second program
            totals = place_beside(totals, state.numbers)
        bare, rest = _bare(state, carry)
        for index, (batch, _) in enumerate(_all_of(batches, "evaluation would miss", "evaluate")):
            rest, totals = step(bare, rest, batch, totals, None if key is None else np.int32(index))
        return host_values(totals.compute())

    return evaluate


def predictor(beats: Beats, *, carry: bool = False) -> Callable[[TrainState, Iterable[Any]], Any]:
    """A function that computes the outputs for every example of some batches, in their order.

    Args:
      beats: from `four_beats(..., predict=)`, which needs no labels; it runs in evaluation mode.
      carry: whether what the forward pass writes to the model's variables goes on to the next batch, as in
        `evaluator`.

    Returns:
      `predict(state, batches) -> outputs`, NumPy arrays with the entries of all batches one after the other;
      those of an order, such as `fourbeat.data.by_length`, in the order of the data. What pads a short batch
      is left out. It compiles once for each shape of a batch.

    Raises:
      TypeError: when called, where `batches` is not many batches, or one of them is no dict of arrays.
      ValueError: when called, where `batches` leaves examples out, repeats or shuffles them or is empty, or
        an output does not have one value an example, or other shapes for other batches.

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

    def predict_step(state: TrainState, rest: Any, batch: Any) -> tuple[Any, Any]:
        if not carry:
            return None, beats.predict_step(state, batch)
        state = dataclasses.replace(state, rest=rest)
        outputs, state = beats.predict_step(state, batch, carry=True)
        return settled(state.rest), outputs

    step = jax.jit(predict_step, donate_argnums=(1,))

    @explaining_used_up
    def predict(state: TrainState, batches: Iterable[Any]) -> Any:
        if getattr(batches, "shuffle", False):
            raise ValueError(
                "these batches are shuffled, so the entries of a prediction would be in another order than "
                "the data's. Use batches(..., shuffle=False)."
            )
        places = batches.places() if isinstance(batches, Batches) else None
        bare, rest = _bare(state, carry)
        parts, underway = [], None
        for batch, num_real in _all_of(batches, "prediction would miss", "predict"):
            rest, outputs = step(bare, rest, batch)
            started = outputs, batch, num_real
            if underway is not None:  # read while the device computes the next
                parts.append(_without_padding(*underway))
            underway = started
        assert underway is not None
        parts.append(_without_padding(*underway))
        outputs = jax.tree.map(_concatenated, *parts)
        return outputs if places is None else jax.tree.map(lambda entries: entries[places], outputs)

    return predict


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


def _all_of(batches: Any, would_miss: str, to_do: str) -> Iterator[tuple[Any, int | None]]:
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


def _without_padding(outputs: Any, batch: Any, num_real: int | None) -> Any:
    """The outputs of the examples that are no padding, on the host."""
    num_examples = count_examples(batch)
    for place, leaf in leaves_with_paths(outputs, "outputs"):
        if jnp.shape(leaf)[:1] != (num_examples,):
            raise ValueError(
                f"predict returned {place} of shape {jnp.shape(leaf)} for a batch of {num_examples} "
                "examples. Return arrays of one entry an example."
            )
    outputs = jax.device_get(outputs)
    if num_real is not None:
        return jax.tree.map(lambda leaf: leaf[:num_real], outputs)
    if not isinstance(batch, Batch) or batch.padding_weight is None:
        return outputs
    is_real = np.asarray(batch.padding_weight) > 0
    return jax.tree.map(lambda leaf: leaf[is_real], outputs)


def _typed(key: int | jax.Array | None) -> jax.Array | None:
    if key is None or isinstance(key, int):
        return None if key is None else jax.random.key(key)
    key = jnp.asarray(key)
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if is_typed else jax.random.wrap_key_data(key)
