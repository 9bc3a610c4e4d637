"""The area under the ROC curve."""

from dataclasses import dataclass
from typing import final

import jax

from fourbeat.metrics.ranking import Ranking
from fourbeat.metrics.ranks import Ranked, area, area_margin


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class AUROC(Ranking):
    """Area under the ROC curve: how often a positive has a higher score than a negative, ties counted half.

    Equal to scikit-learn's `roc_auc_score`, for more than two classes to that of each class against the
    others, `multi_class="ovr"`. Without `capacity` scores are counted in bins, in constant memory: pairs
    within a bin count half, so that the area is off by at most half of the share of such pairs, which
    `bounds=True` gives. With `capacity` the examples themselves are kept, and the area is exact.

    Args:
      num_classes: how many classes there are, C; at least 2. Two have one curve, that of class 1.
      average: over more than two classes: "macro", "weighted" by the examples of each class, or None for a
        float32 array (C,).
      absent: what a class counts without an example of it, or without one of another class: "skip" leaves it
        out of the average, "zero" counts 0.
      capacity: how many examples of a weight above 0 can be kept, over all that is seen until the next
        `reset`. With one more it computes NaN, and an evaluator warns. None for bins.
      bins: how many bins there are, a multiple of 4: half of them evenly wide from 0 to 1, the others farther
        out. A bin takes 16 bytes a curve.
      bounds: whether to compute instead the least and the most that the exact area can be, an array (2, ...).
      logits: name of a real array (..., C); or (...), any score that is higher for class 1. Of probabilities
        of more than two classes give the logarithms.
      labels: name of an integer array (...).

    Raises:
      ValueError: an option is none of these.

    >>> import jax.numpy as jnp
    >>> logits, labels = jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])
    >>> float(AUROC().update(logits=logits, labels=labels).compute())
    0.75
    >>> float(AUROC(capacity=100).update(logits=logits, labels=labels).compute())
    0.75
    >>> AUROC(bins=4, bounds=True).update(logits=logits, labels=labels).compute()
    Array([0.5, 1. ], dtype=float32)
    """

    def of_curve(self, ranked: Ranked) -> tuple[jax.Array, jax.Array, jax.Array]:
        score, margin = area(ranked), area_margin(ranked) if self.capacity is None else 0.0
        return score - margin, score, score + margin

    def occurs(self, positive: jax.Array, negative: jax.Array) -> jax.Array:
        return (positive > 0) & (negative > 0)
