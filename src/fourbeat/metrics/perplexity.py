"""Perplexity: how many equally likely tokens the model hesitates between."""

from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics import totals
from fourbeat.metrics.inputs import item_weight, named_value, weighted_sums
from fourbeat.metrics.metric import Metric, check_mergeable


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Perplexity(Metric):
    """Exponential of the weighted mean negative log likelihood, over all that was seen.

    Computes a float32 scalar; NaN where nothing was seen.

    Args:
      loss: name of a real array of negative log likelihoods, in nats, one per token.

    >>> loss = jnp.log(jnp.array([[2.0, 8.0], [5.0, 5.0]]))
    >>> round(float(Perplexity("loss").update(loss=loss, weight=jnp.array([1, 0])).compute()), 4)
    4.0
    """

    loss: str = field(metadata={"static": True})
    sums: jax.Array = field(default=totals.FRESH, kw_only=True)

    def __post_init__(self) -> None:
        if self.sums is totals.FRESH:
            object.__setattr__(self, "sums", totals.zeros(2))

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        loss = named_value(self, values, self.loss, rename='Perplexity("...")')
        weight = item_weight(self, loss.shape, weight, of=repr(self.loss))
        return replace(self, sums=totals.add(self.sums, weighted_sums(loss, weight)))

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return replace(self, sums=totals.merge(self.sums, other.sums))

    def compute(self) -> jax.Array:
        total, weight = totals.read(self.sums)
        return jnp.exp(total / weight)

    def reset(self) -> Self:
        return replace(self, sums=totals.zeros(2))
