"""Scores read on the host, and the warnings of one that is NaN: its metric saw nothing, or too much."""

import warnings
from collections.abc import Iterator
from typing import Any, Final

import jax
import numpy as np

from fourbeat.metrics.collection import Collection
from fourbeat.metrics.kept_examples import KeptExamples
from fourbeat.types import Object


class NothingSeenWarning(UserWarning):
    """A metric has seen no example of a weight above 0, so its score is NaN."""


class CapacityWarning(UserWarning):
    """A metric has seen more examples than it keeps, so its score is NaN."""


EVALUATED: Final = (
    "Look at the column 'weight' of the batches, and at the filter or the split that they come from."
)
TRAINED: Final = (
    "There was no step since the metrics were started anew, or each step was skipped by a guard, or the "
    "column 'weight' of its batch is 0."
)


def read_scores(metric: Any, advice: str, *, stacklevel: int) -> dict:
    """What a metric computes to, on the host.

    Args:
      metric: one, or a collection, or those of the members of replicas, after its updates.
      advice: what to look at where nothing was seen, for the text.
      stacklevel: as in `warnings.warn`; 1 means the caller of this function.

    Returns:
      Python floats by name, or NumPy arrays where a metric has many values.

    Warns:
      NothingSeenWarning: a score is NaN because everything that its metric was given had weight 0.
      CapacityWarning: a score is NaN because its metric was given more than it keeps.
    """
    scores = host_values(metric.compute())
    if any(np.isnan(score).any() for score in jax.tree.leaves(scores)):
        _warn_of_nothing_seen(metric, advice, stacklevel + 1)
        _warn_of_too_many_seen(metric, stacklevel + 1)
    return scores


def host_values(values: Object) -> dict:
    """Computed metrics as Python floats, or NumPy arrays where a metric has many values.

    >>> host_values({"loss": np.float32(0.5), "matrix": np.eye(2)})["loss"]
    0.5
    """
    values = values if isinstance(values, dict) else {"value": values}
    fetched = jax.device_get(values)  # one wait for all; sorted by name, unlike `values`
    return {name: _host_value(fetched[name], value) for name, value in values.items()}


def _host_value(fetched: Object, value: Object) -> Any:
    if isinstance(fetched, dict):
        return {name: _host_value(fetched[name], value[name]) for name in value}
    return float(fetched) if np.ndim(fetched) == 0 else np.asarray(fetched)


def _warn_of_nothing_seen(metric: Object, advice: str, stacklevel: int) -> None:
    unseen = [name for name, each in _named(metric) if _is_as_reset(each)]
    if unseen:
        has, its = ("have", "their") if unseen[1:] else ("has", "its")
        warnings.warn(
            f"{', '.join(unseen)} {has} seen no example of a weight above 0, so {its} score is NaN. {advice}",
            NothingSeenWarning,
            stacklevel=stacklevel + 1,
        )


def _warn_of_too_many_seen(metric: Object, stacklevel: int) -> None:
    for name, each in _named(metric):
        for kept in jax.tree.leaves(each, is_leaf=lambda node: isinstance(node, KeptExamples)):
            if isinstance(kept, KeptExamples) and (count := int(np.max(kept.count))) > kept.capacity:
                warnings.warn(
                    f"{name} has seen {count} examples of a weight above 0, more than the {kept.capacity} "
                    f"that it keeps, so its score is NaN. Make it with capacity={count} or more; AUROC and "
                    "AveragePrecision without capacity count any number of examples, in bins.",
                    CapacityWarning,
                    stacklevel=stacklevel + 1,
                )


def _named(metric: Object, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(metric, Collection):
        yield f"metric {name!r} ({metric!r})" if name else f"the metric {metric!r}", metric
        return
    for part in metric:
        yield from _named(metric[part], f"{name}.{part}" if name else part)


def _is_as_reset(metric: Any) -> bool:
    """Whether no update has changed a metric, and it computes to NaN."""
    if not any(np.isnan(value).any() for value in jax.tree.leaves(jax.device_get(metric.compute()))):
        return False
    leaves, zeros = (jax.device_get(jax.tree.leaves(each)) for each in (metric, metric.reset()))
    return all(np.array_equal(leaf, zero) for leaf, zero in zip(leaves, zeros, strict=True))
