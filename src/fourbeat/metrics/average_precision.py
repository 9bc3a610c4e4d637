"""Average precision: the area under the curve of precision over recall."""

from dataclasses import dataclass
from typing import final

import jax

from fourbeat.metrics.ranking import Ranking
from fourbeat.metrics.ranks import Ranked, precision_mean, precision_mean_bounds


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class AveragePrecision(Ranking):
    """Mean of the precision at the score of each positive: precision summed over the steps of recall.

    Equal to scikit-learn's `average_precision_score`. Without `capacity` scores are counted in bins, in
    constant memory, and scores of one bin are taken for equal; `bounds=True` gives what the exact number lies
    between. With `capacity` the examples themselves are kept, and the number is exact. The options are those
    of `AUROC`.

    Args:
      num_classes: how many classes there are, C; at least 2. Two have one curve, that of class 1.
      average: over more than two classes: "macro", "weighted" or None.
      absent: what a class without an example of it counts: "skip" or "zero".
      capacity: how many examples of a weight above 0 can be kept; None for bins.
      bins: how many bins there are, a multiple of 4.
      bounds: whether to compute the least and the most that the exact number can be instead.
      logits: name of a real array.
      labels: name of an integer array.

    Raises:
      ValueError: an option is none of these.

    >>> import jax.numpy as jnp
    >>> logits, labels = jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])
    >>> round(float(AveragePrecision().update(logits=logits, labels=labels).compute()), 4)
    0.8333
    """

    def of_curve(self, ranked: Ranked) -> tuple[jax.Array, jax.Array, jax.Array]:
        score = precision_mean(ranked)
        low, high = precision_mean_bounds(ranked) if self.capacity is None else (score, score)
        return low, score, high

    def occurs(self, positive: jax.Array, negative: jax.Array) -> jax.Array:
        return positive > 0
