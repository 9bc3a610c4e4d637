"""A score of nothing: all that a metric was given had weight 0."""

import warnings
from collections.abc import Iterator

import jax
import numpy as np

from fourbeat.metrics.collection import Collection
from fourbeat.metrics.metric import Metric
from fourbeat.types import Object


class NothingSeenWarning(UserWarning):
    """A metric has seen no example of a weight above 0, so its score is NaN."""


def warn_of_nothing_seen(metric: Metric, scores: Object, *, stacklevel: int) -> None:
    """Warns of each metric whose score is NaN because everything that it was given had weight 0.

    Args:
      metric: one, or a collection, after its updates.
      scores: what it computes to, on the host. Without a NaN in it nothing else is read.
      stacklevel: as in `warnings.warn`; 1 means the caller of this function.
    """
    if not any(np.isnan(score).any() for score in jax.tree.leaves(scores)):
        return
    unseen = [name for name, each in _named(metric) if _is_as_reset(each)]
    if unseen:
        listed, has, its = (
            ", ".join(unseen),
            "have" if unseen[1:] else "has",
            "their" if unseen[1:] else "its",
        )
        warnings.warn(
            f"{listed} {has} seen no example of a weight above 0, so {its} score is NaN. Look at the column "
            "'weight' of the batches, and at the filter or the split that they come from.",
            NothingSeenWarning,
            stacklevel=stacklevel + 1,
        )


def _named(metric: Metric, name: str = "") -> Iterator[tuple[str, Metric]]:
    if not isinstance(metric, Collection):
        yield f"metric {name!r} ({metric!r})" if name else f"the metric {metric!r}", metric
        return
    for part in metric:
        yield from _named(metric[part], f"{name}.{part}" if name else part)


def _is_as_reset(metric: Metric) -> bool:
    """Whether no update has changed a metric, and it computes to NaN."""
    if not any(np.isnan(value).any() for value in jax.tree.leaves(jax.device_get(metric.compute()))):
        return False
    leaves, zeros = (jax.device_get(jax.tree.leaves(each)) for each in (metric, metric.reset()))
    return all(np.array_equal(leaf, zero) for leaf, zero in zip(leaves, zeros, strict=True))
