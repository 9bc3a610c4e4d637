"""Describes in words which dtypes values are kept and computed in."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fourbeat.precision.attention import attention
from fourbeat.precision.policy import NORMALISATIONS, Policy
from fourbeat.precision.precision_warnings import product_dtypes
from fourbeat.precision.reductions import is_half
from fourbeat.trees.paths import Path, look_up, render, render_attribute
from fourbeat.types import Batch, Model, Object, State


def explain(beats: Object, state: State, batch: Batch = None) -> str:
    """A table, as text, of the dtypes that values are kept and computed in.

    Args:
      beats: from `four_beats`.
      state: from its `init`.
      batch: if given, a step is traced too, and its products are counted by the dtype of their inputs.

    >>> import fourbeat as fb, optax
    >>> beats = fb.four_beats(lambda model, batch: model(batch["x"])[:, 0], optax.sgd(0.1))
    >>> print(explain(beats, beats.init(nnx.Linear(2, 1, rngs=nnx.Rngs(0)))))
    layer          kept     computed
    model: Linear  float32  as its input and parameters
    loss, its mean, metrics, gradient norms: float32 at least
    """
    policy = beats.options.precision
    rows = [("layer", "kept", "computed"), *_layers(policy, state)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.append("loss, its mean, metrics, gradient norms: float32 at least")
    if policy is not None:
        if is_half(jnp.zeros((), policy.compute)):
            lines.append("sums, the gradients of biases and embeddings among them: accumulated in float32")
        lines.append(f"output of the model: {policy.output}; parameters: {policy.params}")
        if policy.scales_loss:
            lines.append("the loss is scaled by state.loss_scale.scale; gradients are unscaled at once")
    if batch is not None:
        lines.append(f"products of one step: {_products(beats, state, batch)}")
    return "\n".join(line.rstrip() for line in lines)


def _layers(policy: Policy | None, state: State) -> Iterator[tuple[str, str, str]]:
    model = state.model
    if not state.static.is_module:
        read = state.params if policy is None else policy.computed(state.static, state.params)
        for path, is_param in state.static.places:
            if is_param:
                dtypes = str(look_up(state.params, path).dtype), str(look_up(read, path).dtype)
                yield (render("params", path), dtypes[0], f"{dtypes[1]}, and as its other inputs")
        return
    with contextlib.nullcontext() if policy is None else policy.computing(model):
        owners: dict[Path, set[str]] = {}
        for path, is_param in state.static.places:
            if is_param:
                owners.setdefault(path[:-1], set()).add(str(look_up(state.params, path).dtype))
        modules: dict[Path, Any] = dict(nnx.iter_modules(model))
        owners |= {p: set() for p, m in modules.items() if isinstance(m, nnx.MultiHeadAttention)}
        for path, dtypes in owners.items():
            module = modules.get(path)
            name = type(module).__name__
            yield (
                f"{render_attribute('model', path)}: {name}",
                ", ".join(sorted(dtypes)) or "-",
                _computed_in(module, policy),
            )


def _computed_in(module: Model, policy: Policy | None) -> str:
    dtype = getattr(module, "dtype", None)
    if dtype is None:
        return "as its input and parameters" if policy is None else f"{policy.compute}, where its inputs are"
    wide = ", statistics float32" if isinstance(module, NORMALISATIONS) else ""
    if isinstance(module, nnx.MultiHeadAttention):
        wide = f", softmax {'float32' if module.attention_fn is attention else 'as it is written'}"
    return f"{jnp.dtype(dtype).name}{wide}"


def _products(beats: Object, state: State, batch: Batch) -> str:
    counts = product_dtypes(jax.make_jaxpr(beats.gradient)(state, batch).jaxpr)
    return ", ".join(f"{number} in {dtype}" for dtype, number in sorted(counts.items())) or "none"
