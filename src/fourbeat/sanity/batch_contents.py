"""What a batch holds: labels in range, inputs scaled, columns that are read."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from fourbeat.beats import Beats, TrainState
from fourbeat.sanity.report import Finding
from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import Aux, Batch, Object, Tree

_LARGE = 20.0  # limit of an input's mean or deviation: images in 0..255 exceed it, scaled data rarely


def labels_in_range(beats: Beats, state: TrainState, columns: Batch, aux: Aux) -> Finding:
    """Whether each label that counts is one of the classes."""
    name = "labels in range"
    logits, labels = named(aux, "logits"), labels_of(columns, aux)
    is_binary = logits is not None and labels is not None and logits.shape == labels.shape
    if labels is None:
        return _indices_in_range(beats, state, columns)
    if not (is_binary or jnp.issubdtype(labels.dtype, jnp.integer)):
        return Finding(name, "skip", "no integer labels")
    num_classes = 2 if is_binary else None if logits is None else logits.shape[-1]
    if num_classes is None:
        column = next((name for name in ("label", "labels") if named(columns, name) is not None), None)
        num_classes = None if column is None else _num_indexed(beats, state, columns, column)
    values = np.asarray(labels)
    weight = named(columns, "weight")
    if weight is not None and values.shape[: weight.ndim] == weight.shape:
        values = values[np.asarray(weight) > 0]
    if values.size == 0:
        return Finding(name, "skip", "no label has weight")
    bad = np.unique(values[(values < 0) | (values > (np.inf if num_classes is None else num_classes - 1))])
    last = "" if num_classes is None else num_classes - 1
    if bad.size:
        shown = ", ".join(map(str, bad[:5]))
        verb = "is" if bad.size == 1 else "are"
        advice = "their loss is garbage or NaN. Give these labels a weight of 0"
        return Finding(name, "warn", f"{shown} {verb} not in 0..{last}: {advice}")
    of = "labels; nothing tells the number of classes" if num_classes is None else f"{num_classes} classes"
    return Finding(name, "ok", f"{values.min()}..{values.max()} of {of}")


def labels_of(columns: Batch, aux: Aux) -> Tree:
    """The labels in the loss function's aux, or else in the batch; None if there are none."""
    labels = named(aux, "labels")
    for column in ("label", "labels"):
        labels = named(columns, column) if labels is None else labels
    return labels


def _indices_in_range(beats: Beats, state: TrainState, columns: Batch) -> Finding:
    """Whether every integer column that indexes something stays in its range; the name does not matter."""
    name, seen = "labels in range", []
    for column, values in columns.items() if isinstance(columns, Mapping) else ():
        if not (hasattr(values, "dtype") and jnp.issubdtype(values.dtype, jnp.integer)) or values.size == 0:
            continue
        if (length := _num_indexed(beats, state, columns, column)) is None:
            continue
        counted, weight = np.asarray(values), named(columns, "weight")
        if weight is not None and counted.shape[: weight.ndim] == weight.shape:
            counted = counted[np.asarray(weight) > 0]
        bad = np.unique(counted[(counted < 0) | (counted >= length)])
        if bad.size:
            shown = ", ".join(map(str, bad[:5]))
            return Finding(
                name,
                "warn",
                f"batch[{column!r}] indexes one of {length}, and holds {shown}: what is read there is "
                "garbage or NaN. Give their examples a weight of 0",
            )
        seen.append(f"batch[{column!r}] of {length}")
    return Finding(name, "ok" if seen else "skip", ", ".join(seen) or "no integer labels")


def _num_indexed(beats: Beats, state: TrainState, columns: Batch, name: str) -> int | None:
    """How many classes, or entries of a table, the loss selects from with an integer column."""
    loss = lambda labels: beats.loss(state, {**columns, name: labels})[0]
    jaxpr = jax.make_jaxpr(loss)(columns[name]).jaxpr
    return indexed_length(jaxpr, set(jaxpr.invars))


def indexed_length(jaxpr: core.Jaxpr, labels: set[Any]) -> int | None:
    """The least length of an axis that `labels`, or values made from them, index; None if they index none.

    Labels index by a gather, such as `logits[rows, labels]` and `take_along_axis`, or by comparison with
    `arange(C)`, as `one_hot` does.

    Args:
      jaxpr: the program of the loss.
      labels: the variables in it that hold labels.
    """
    derived, iotas, lengths = set(labels), {}, []
    for equation in jaxpr.eqns:
        inputs = [atom for atom in equation.invars if isinstance(atom, core.Var)]
        if equation.primitive.name == "iota":
            iotas[equation.outvars[0]] = equation.params["shape"][equation.params["dimension"]]
        if not derived.intersection(inputs):
            continue
        inner = equation.params.get("jaxpr")
        inner = getattr(inner, "jaxpr", inner)
        if inner is not None and len(inner.invars) == len(equation.invars):
            passed = zip(equation.invars, inner.invars, strict=True)
            handed = {to for given, to in passed if isinstance(given, core.Var) and given in derived}
            lengths.append(indexed_length(inner, handed))
        elif equation.primitive.name == "gather" and equation.invars[1] in derived:
            axes = equation.params["dimension_numbers"].start_index_map
            operand: Object = equation.invars[0].aval
            lengths.append(operand.shape[axes[-1]])
        elif equation.primitive.name == "eq":
            lengths.extend(iotas[atom] for atom in inputs if atom in iotas)
        derived.update(out for out in equation.outvars if _is_integer(out.aval))
    return min((length for length in lengths if length is not None), default=None)


def _is_integer(aval: Object) -> bool:
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.integer)


def inputs_scaled(columns: Batch) -> Finding:
    """Whether the inputs are finite, and of about mean 0 and deviation 1."""
    name = "inputs scaled"
    seen, bad = [], []
    for place, leaf in leaves_with_paths(columns, "batch"):
        is_picture = leaf.dtype == jnp.uint8 and leaf.ndim > 2  # other integers are labels, tokens, counts
        is_input = is_picture or jnp.issubdtype(leaf.dtype, jnp.floating)
        if not is_input or place == "batch['weight']" or leaf.size == 0:
            continue
        values = np.asarray(leaf, np.float64)
        if not np.isfinite(values).all():
            bad.append(f"{place} holds {int((~np.isfinite(values)).sum())} NaN or Inf")
            continue
        mean, deviation = values.mean(), values.std()
        (bad if max(abs(mean), deviation) > _LARGE else seen).append(
            f"{place} has mean {mean:.3g}, deviation {deviation:.3g}"
        )
    if bad:
        return Finding(name, "warn", "; ".join(bad) + ". Scale to about mean 0, deviation 1")
    return Finding(name, "ok" if seen else "skip", "; ".join(seen) or "no floating-point column")


def columns_read(gradient: Callable, state: TrainState, columns: Batch) -> Finding:
    """Whether the step reads every column of the batch."""
    name = "columns read"

    def outcome(columns: Batch) -> Any:
        _, out = gradient(state, columns)
        return out.loss, out.rest, out.metrics

    jaxpr = jax.make_jaxpr(outcome)(columns).jaxpr
    read = _needed(jaxpr)
    places = [place for place, _ in leaves_with_paths(columns, "batch")]
    unread = [place for place, var in zip(places, jaxpr.invars, strict=True) if var not in read]
    if unread:
        verb = "changes" if len(unread) == 1 else "change"
        return Finding(name, "warn", f"{', '.join(unread)} {verb} neither loss, metrics nor other variables")
    return Finding(name, "ok", f"all {len(places)}")


def _needed(jaxpr: core.Jaxpr) -> set[Any]:
    """The variables that the outputs depend on."""
    needed = {var for var in jaxpr.outvars if isinstance(var, core.Var)}
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(var for var in equation.invars if isinstance(var, core.Var))
    return needed


def named(mapping: Object, name: str) -> Tree:
    """The value with that name in a mapping; None if it has none, or is not a mapping."""
    return mapping.get(name) if isinstance(mapping, Mapping) else None
