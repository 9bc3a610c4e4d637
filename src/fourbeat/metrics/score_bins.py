"""Weight by bins of a score, for positives and negatives: constant memory for any number of examples."""

from dataclasses import dataclass, replace
from typing import Self

import jax
import jax.numpy as jnp

from fourbeat.metrics import totals


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class ScoreBins:
    """Two running totals for each bin: the weight of the positives in it, and of the negatives.

    Half of the bins are evenly wide from 0 to 1, where probabilities lie. A quarter on each side of them
    covers the other numbers up to infinity; those bins grow wider the farther out they lie.

    Attributes:
      sums: float32 (2, 2, num_curves, num_bins), running totals; positives first, the highest scores first.
    """

    sums: jax.Array

    @classmethod
    def empty(cls, num_curves: int, num_bins: int) -> Self:
        return cls(totals.zeros(2, num_curves, num_bins))

    def add(self, scores: jax.Array, is_positive: jax.Array, weight: jax.Array) -> Self:
        """The bins with some examples counted in.

        Args:
          scores: float32 (num_curves, n). NaN of a weight above 0 makes the totals NaN.
          is_positive: bool (num_curves, n).
          weight: float32 (n,).
        """
        _, _, num_curves, num_bins = self.sums.shape
        row = jnp.where(is_positive, 0, num_curves) + jnp.arange(num_curves)[:, None]
        places = row * num_bins + _bin_of(scores, num_bins)
        amounts = jnp.where((weight != 0) & jnp.isnan(scores), jnp.nan, weight)
        return replace(self, sums=totals.add_at(self.sums, places.ravel(), amounts.ravel()))

    def merge(self, other: Self) -> Self:
        return replace(self, sums=totals.merge(self.sums, other.sums))


def _bin_of(scores: jax.Array, num_bins: int) -> jax.Array:
    """int32: the bin of each score, from 0 for the highest."""
    beyond = jnp.clip(jnp.where(scores > 1, scores - 1, scores), -3e38, 3e38)
    outside = beyond / (1 + jnp.abs(beyond))  # in (-1, 1)
    place = jnp.where(
        scores > 1, 3 + outside, jnp.where(scores < 0, 1 + outside, 1 + 2 * scores)
    )  # in [0, 4]
    index = jnp.clip(jnp.where(jnp.isnan(place), 0, place) * (num_bins / 4), 0, num_bins - 1)
    return num_bins - 1 - index.astype(jnp.int32)
