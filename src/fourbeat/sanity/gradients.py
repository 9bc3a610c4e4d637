"""Whether every parameter and every unit has a gradient, and a finite one."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fourbeat.beats import TrainState
from fourbeat.beats.loss import is_weighted
from fourbeat.sanity.report import Finding
from fourbeat.trees.paths import leaves_with_paths
from fourbeat.types import Batch, Object, Params

_MOST_NAMED = 5


def gradients_finite(gradient: Callable, state: TrainState, columns: Batch, grads: Params) -> Finding:
    """Whether all gradients are finite; where they are not, whether numbers of weight 0 make it so."""
    name = "gradients finite"
    leaves = leaves_with_paths(grads, "params")
    bad = [place for place, leaf in leaves if not _all_finite(leaf)]
    if not bad:
        return Finding(name, "ok", f"all {len(leaves)}")
    seen = f"{_listed(bad)} {'have' if len(bad) > 1 else 'has'} NaN or Inf"
    examples = _examples_at_fault(gradient, state, columns)
    if examples:
        which = f"example{'s' if len(examples) > 1 else ''} {_listed(list(map(str, examples)))}"
        return Finding(
            name,
            "warn",
            f"{seen}: the model makes it of finite numbers of weight 0, in {which}. Find the operation with "
            "fb.guard.locate, and use jnp.where twice, on its input and on its result: docs/production.md, "
            "'A NaN that weighs nothing'",
        )
    if state.loss_scale is not None:
        return Finding(name, "skip", f"{seen}: float16 lowers its loss scale until they are finite")
    return Finding(name, "warn", f"{seen}. Find the operation with fb.guard.locate")


def _examples_at_fault(gradient: Callable, state: TrainState, columns: Batch) -> list[int]:
    """The first examples whose numbers of weight 0 make a gradient that is not finite.

    They are replaced by copies of numbers that count. Where that makes all gradients finite, they are put
    back in halves, until single examples are found.
    """
    weight = np.asarray(columns["weight"]) if is_weighted(columns) else np.zeros(())
    if weight.ndim == 0 or not weight.any():
        return []
    candidates = np.flatnonzero((weight == 0).reshape(len(weight), -1).any(1)).tolist()
    compiled = jax.jit(lambda state, columns: gradient(state, columns)[0])

    def is_bad(examples: list[int]) -> bool:
        copied = _with_copies(columns, weight, put_back=examples)
        return not all(map(_all_finite, jax.tree.leaves(compiled(state, copied))))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each was given when the step was traced for the first time
        if not candidates or is_bad([]):
            return []
        return _searched(candidates, is_bad) or candidates


def _searched(examples: list[int], is_bad: Callable[[list[int]], bool]) -> list[int]:
    """Single examples that are bad alone, by halves; a few more than are named are enough."""
    if not is_bad(examples):
        return []
    if len(examples) == 1:
        return examples
    middle = len(examples) // 2
    found = _searched(examples[:middle], is_bad)
    return found if len(found) > _MOST_NAMED else found + _searched(examples[middle:], is_bad)


def _with_copies(columns: dict[str, Any], weight: np.ndarray, put_back: list[int]) -> dict[str, Any]:
    """The batch with numbers that count in place of those of weight 0, but for some examples."""
    is_replaced = weight == 0
    is_replaced[put_back] = False
    counted = tuple(np.argwhere(weight)[0])

    def replaced(column: Object) -> Any:
        if column.shape[:1] != weight.shape[:1] or jnp.issubdtype(column.dtype, jax.dtypes.prng_key):
            return column
        has_items = column.shape[: weight.ndim] == weight.shape
        where = is_replaced if has_items else is_replaced.reshape(len(weight), -1).all(1)
        where = where.reshape(where.shape + (1,) * (column.ndim - where.ndim))
        return jnp.where(where, column[counted if has_items else counted[0]], column)

    others = {name: column for name, column in columns.items() if name != "weight"}
    return {**jax.tree.map(replaced, others), "weight": columns["weight"]}


def _all_finite(leaf: Object) -> bool:
    return bool(np.isfinite(np.asarray(leaf, np.float32)).all())


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def gradients_reach(grads: Params) -> Finding:
    """Whether every parameter has a gradient."""
    leaves = leaves_with_paths(grads, "params")
    dead = [place for place, leaf in leaves if not np.asarray(leaf, np.float32).any()]
    if dead:
        return Finding("parameters with gradient", "warn", f"{_listed(dead)} have none")
    return Finding("parameters with gradient", "ok", f"all {len(leaves)}")


def live_units(grads: Params) -> Finding:
    """Units of a layer whose weights all have a gradient of 0 for every example: they never fire."""
    name = "live units"
    dead, count = [], 0
    for place, leaf in leaves_with_paths(grads, "params"):
        values = np.asarray(leaf, np.float32)
        if values.ndim < 2 or not values.any():
            continue
        silent = int((~values.reshape(-1, values.shape[-1]).any(0)).sum())
        count += values.shape[-1]
        if silent:
            dead.append(f"{silent} of {values.shape[-1]} of {place}")
    if dead:
        return Finding(name, "warn", f"no gradient reaches {'; '.join(dead)}")
    return Finding(name, "ok" if count else "skip", f"all {count}" if count else "no layer with units")
