"""Metrics that keep one of the values that they see, such as the largest."""

import abc
from dataclasses import dataclass, field, replace
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.inputs import spread_weight
from fourbeat.metrics.metric import check_mergeable
from fourbeat.metrics.totals import FRESH
from fourbeat.metrics.valued import Valued, names_read


@dataclass(frozen=True, eq=False, repr=False)
class KeptValue(Valued):
    """A metric that keeps one value of weight above 0, by two formulas: of a batch, and of two values.

    The array that it holds is the value, and 1 where there is one. NaN is a value: it tells of a model that
    diverged.
    """

    kept: jax.Array = field(default=FRESH, kw_only=True)

    @abc.abstractmethod
    def of_batch(self, value: jax.Array, counts: jax.Array) -> jax.Array:
        """The value to keep of a batch: any number where nothing counts.

        Args:
          value: float32 array (n,).
          counts: bool array (n,).
        """

    @abc.abstractmethod
    def of_two(self, earlier: jax.Array, later: jax.Array) -> jax.Array:
        """The value to keep of two."""

    def __post_init__(self) -> None:
        if self.kept is FRESH:
            names_read(self, self.value)
            object.__setattr__(self, "kept", jnp.zeros(2, jnp.float32))

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        what, value, check = self.read_value(values, weight)
        if value.ndim == 0 and weight is not None:  # one of the batch: it counts where an example does
            counts = jnp.any(jnp.asarray(weight) != 0)
        else:
            counts = spread_weight(self, value.shape, weight, of=what) != 0
            check()
        counts = counts.ravel()
        found = self.of_batch(value.astype(jnp.float32).ravel(), counts)
        return self._with(jnp.stack([found, jnp.any(counts).astype(jnp.float32)]))

    def merge(self, other: Self, /) -> Self:
        check_mergeable(self, other)
        return self._with(other.kept)

    def compute(self) -> jax.Array:
        return jnp.where(self.kept[1] > 0, self.kept[0], jnp.nan)

    def reset(self) -> Self:
        return replace(self, kept=jnp.zeros(2, jnp.float32))

    def _with(self, later: jax.Array) -> Self:
        (own, has_own), (new, has_new) = self.kept, later
        either = jnp.where(has_own > 0, own, new)
        kept = jnp.where((has_own > 0) & (has_new > 0), self.of_two(own, new), either)
        return replace(self, kept=jnp.stack([kept, jnp.maximum(has_own, has_new)]))
