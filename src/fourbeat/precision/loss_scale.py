"""Dynamic loss scaling."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class LossScale:
    """Dynamic loss scaling: how far losses are scaled up so that float16 gradients do not underflow.

    It doubles after 2,000 finite steps in a row and halves, down to 1, at each overflow, whose step is
    skipped.

    Attributes:
      scale: float32 scalar, a power of two.
      num_finite: int32 scalar, finite steps since the last change.
      num_skipped: int32 scalar, steps skipped.

    >>> import jax.numpy as jnp
    >>> LossScale.start().after(jnp.array(False)).scale
    Array(16384., dtype=float32)
    """

    scale: jax.Array
    num_finite: jax.Array
    num_skipped: jax.Array

    @classmethod
    def start(cls) -> "LossScale":
        """A scale of 2**15."""
        return cls(jnp.full((), 2.0**15, jnp.float32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def after(self, finite: jax.Array, counts: jax.Array | None = None) -> "LossScale":
        """The scale after a step whose gradients were finite or not, a bool scalar.

        Args:
          finite: whether they were.
          counts: False for a batch of no weight, which leaves the scale as it is; None for True.
        """
        after = self._after(finite)
        return after if counts is None else jax.tree.map(partial(jnp.where, counts), after, self)

    def _after(self, finite: jax.Array) -> "LossScale":
        num_finite = jnp.where(finite, self.num_finite + 1, 0)
        grows = num_finite >= 2_000
        grown = jnp.where(grows, jnp.minimum(self.scale * 2, 2.0**24), self.scale)
        return LossScale(
            jnp.where(finite, grown, jnp.maximum(self.scale / 2, 1)),
            jnp.where(grows, 0, num_finite),
            self.num_skipped + ~finite,
        )
