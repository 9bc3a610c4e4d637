"""Perplexity: how many equally likely tokens the model hesitates between."""

from dataclasses import dataclass, field
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.inputs import named_value, spread_weight, weighted_sums
from fourbeat.metrics.summed import Summed


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Perplexity(Summed):
    """Exponential of the weighted mean negative log likelihood, over all that was seen.

    Computes a float32 scalar; NaN where nothing was seen.

    Args:
      loss: name of a real array of negative log likelihoods, in nats, one a token.

    >>> loss = jnp.log(jnp.array([[2.0, 8.0], [5.0, 5.0]]))
    >>> round(float(Perplexity("loss").update(loss=loss, weight=jnp.array([1, 0])).compute()), 4)
    4.0
    """

    loss: str = field(metadata={"static": True})

    def sums_shape(self) -> tuple[int, ...]:
        return (2,)

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        loss = named_value(self, values, self.loss, rename='Perplexity("...")')
        weight = spread_weight(self, loss.shape, weight, of=repr(self.loss))
        return self.add(weighted_sums(loss, weight))

    def compute(self) -> jax.Array:
        total, weight = self.total
        return jnp.exp(total / weight)
