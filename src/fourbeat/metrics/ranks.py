"""Ranks by weight: how much lies above each score, equal scores counted alike; and what is read off them.

Sums over many examples are kept in pairs of float32, as running totals are: they stay right past 2**24.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fourbeat.metrics import totals


class Ranked(NamedTuple):
    """Positives and negatives in order of falling score.

    Attributes:
      positive: float32 (n,), weight of the positives at each place.
      negative: float32 (n,), weight of the negatives.
      positive_above: float32 (n,), weight of the positives with a higher score.
      negative_above: float32 (n,).
      positive_down: float32 (n,), weight of the positives with a score as high or higher.
      negative_down: float32 (n,).
    """

    positive: jax.Array
    negative: jax.Array
    positive_above: jax.Array
    negative_above: jax.Array
    positive_down: jax.Array
    negative_down: jax.Array


def ranked_bins(sums: jax.Array) -> Ranked:
    """Bins, each one rank.

    Args:
      sums: running totals (2, 2, n) of the positives and the negatives, highest scores first.
    """
    down = _cumulated(sums)
    above = jnp.pad(down[:, :-1], ((0, 0), (1, 0)))
    return Ranked(*totals.read(sums), *above, *down)


def ranked_examples(scores: jax.Array, is_positive: jax.Array, weight: jax.Array) -> Ranked:
    """Examples, those of one score one rank.

    Args:
      scores: float32 (n,); may be anything where the weight is 0.
      is_positive: bool (n,).
      weight: float32 (n,).
    """
    order = jnp.argsort(-scores)
    positive = jnp.where(is_positive, weight, 0)[order]
    sides = jnp.stack([positive, weight[order] - positive])
    above, down = _above_and_down(-scores[order], sides)
    return Ranked(*sides, *above, *down)


def mid_ranks(values: jax.Array, weight: jax.Array) -> jax.Array:
    """The weighted rank of each value as a fraction of all weight, less 1/2: in [-1/2, 1/2].

    Args:
      values: float32 (n,); may be anything where the weight is 0.
      weight: float32 (n,).
    """
    order = jnp.argsort(values)
    above, down = _above_and_down(values[order], weight[order])
    share = (above / 2 + down / 2) / exact_sum(weight) - 0.5
    return jnp.zeros_like(share).at[order].set(share, unique_indices=True)


def area(ranked: Ranked) -> jax.Array:
    """The probability that a positive has a higher score than a negative; equal scores count half."""
    positive, negative = exact_sum(ranked.positive), exact_sum(ranked.negative)
    mid = (ranked.positive_above + ranked.positive_down) / 2
    return exact_sum((ranked.negative / negative) * (mid / positive))


def area_margin(ranked: Ranked) -> jax.Array:
    """By how much `area` may be off where scores of one rank may differ: half of the pairs among them."""
    positive, negative = exact_sum(ranked.positive), exact_sum(ranked.negative)
    return exact_sum((ranked.negative / negative) * (ranked.positive / positive)) / 2


def precision_mean(ranked: Ranked) -> jax.Array:
    """The mean of the precision at the score of each positive."""
    return _mean_of(ranked, ranked.positive_down, ranked.negative_down)


def precision_mean_bounds(ranked: Ranked) -> tuple[jax.Array, jax.Array]:
    """The least and the most that `precision_mean` may be where scores of one rank may differ."""
    return (
        _mean_of(ranked, ranked.positive_above, ranked.negative_down),
        _mean_of(ranked, ranked.positive_down, ranked.negative_above),
    )


def exact_sum(values: jax.Array) -> jax.Array:
    """The sum of float32 numbers, in groups of 64, so that rounding does not add up with their number."""
    while values.size > 1:
        values = jnp.pad(values, (0, -values.size % 64)).reshape(-1, 64).sum(axis=1)
    return values.sum()


def _mean_of(ranked: Ranked, positive: jax.Array, negative: jax.Array) -> jax.Array:
    predicted = positive + negative
    precision = positive / jnp.where(predicted == 0, 1, predicted)
    return exact_sum(ranked.positive / exact_sum(ranked.positive) * precision)


def _above_and_down(ascending: jax.Array, amounts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What lies before the equals of each place, and what lies before them or among them.

    Args:
      ascending: float32 (n,), sorted.
      amounts: float32 (..., n) in the same order.
    """
    count = ascending.size
    place = jnp.arange(count)
    differs = ascending[1:] != ascending[:-1]
    first = jax.lax.cummax(jnp.where(jnp.append(True, differs), place, 0))
    last = jax.lax.cummin(jnp.where(jnp.append(differs, True), place, count - 1), reverse=True)
    down = _cumulated(jnp.stack([amounts, jnp.zeros_like(amounts)]))
    before = jnp.pad(down[..., :-1], [(0, 0)] * (amounts.ndim - 1) + [(1, 0)])
    return before[..., first], down[..., last]


def _cumulated(pairs: jax.Array) -> jax.Array:
    """float32 (..., n): the running sum of totals (2, ..., n) along their last axis.

    In log2(n) rounds, each over twice the distance, as a loop: `lax.associative_scan` writes them one by one,
    and takes seconds to compile.
    """
    count = pairs.shape[-1]
    place = jnp.arange(count)

    def one(i: jax.Array, sums: jax.Array) -> jax.Array:
        before = place - jnp.left_shift(1, i)
        return totals.merge(jnp.where(before >= 0, sums[..., jnp.maximum(before, 0)], 0), sums)

    return totals.read(jax.lax.fori_loop(0, (count - 1).bit_length(), one, pairs))
