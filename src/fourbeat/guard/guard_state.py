"""What a guard has seen, as a part of the training state."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

NUM_EXAMPLES_KEPT = 8  # of the bad examples of a batch, by their place in it


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class GuardState:
    """What a guard has seen, in two arrays: each leaf of a state costs time at every call.

    Attributes:
      numbers: int32; read it through the properties.
      values: float32; the loss and the gradient norm of the last bad step, then running means.
    """

    numbers: jax.Array
    values: jax.Array

    @property
    def num_skipped(self) -> jax.Array:
        """Steps not applied, those on a batch of no weight included."""
        return self.numbers[0]

    @property
    def num_bad(self) -> jax.Array:
        """Bad steps."""
        return self.numbers[1]

    @property
    def num_consecutive(self) -> jax.Array:
        """Bad steps in a row, up to now."""
        return self.numbers[2]

    @property
    def longest(self) -> jax.Array:
        """The most bad steps in a row so far."""
        return self.numbers[3]

    @property
    def step(self) -> jax.Array:
        """The last bad step, as `tick.step` counts (its batch is `batches[step - 1]`); 0 if none."""
        return self.numbers[4]

    @property
    def leaf(self) -> jax.Array:
        """Which leaf was the first bad one then: gradients, then parameters, then the loss; or -1."""
        return self.numbers[5]

    @property
    def num_nan(self) -> jax.Array:
        """NaN in that leaf."""
        return self.numbers[6]

    @property
    def num_inf(self) -> jax.Array:
        """Infinities in that leaf."""
        return self.numbers[7]

    @property
    def num_examples(self) -> jax.Array:
        """Examples of the batch with a bad column or loss."""
        return self.numbers[8]

    @property
    def examples(self) -> jax.Array:
        """The places of the first of those examples in the batch, int32 (8,); -1 beyond the last."""
        return self.numbers[9:]

    def __repr__(self) -> str:
        """What it has counted, where that can be read: not in a compiled step, and not after a donation."""
        numbers = self.numbers
        if not isinstance(numbers, jax.Array) or isinstance(numbers, Tracer) or numbers.is_deleted():
            return "GuardState()"
        skipped, bad, _, longest, step = numbers[..., :5].T.tolist()
        return f"GuardState(num_skipped={skipped}, num_bad={bad}, longest={longest}, step={step})"


def start(num_values: int) -> GuardState:
    """A guard's state that has seen nothing, with so many values."""
    numbers = jnp.zeros(9 + NUM_EXAMPLES_KEPT, jnp.int32).at[5].set(-1)
    return GuardState(numbers, jnp.zeros(num_values, jnp.float32))


def num_bad_values(leaf: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How many values of an array are NaN, and how many infinite: int32 scalars.

    One reduction for both: two sums take ten times as long on CPU (0.66 against 0.07 ms for 800,000).
    """
    zero = jnp.int32(0)
    ones = jnp.isnan(leaf).astype(jnp.int32), jnp.isinf(leaf).astype(jnp.int32)
    add = lambda total, more: (total[0] + more[0], total[1] + more[1])
    num_nan, num_inf = lax.reduce(ones, (zero, zero), add, tuple(range(leaf.ndim)))
    return num_nan, num_inf


def first_bad(num_bad: Sequence[tuple[jax.Array, jax.Array]]) -> jax.Array:
    """Number of the first leaf with a bad value, or -1, and its counts of NaN and Inf: int32 (3,)."""
    num_nan, num_inf = map(jnp.stack, zip(*num_bad, strict=True))
    bad = num_nan + num_inf > 0
    first = jnp.argmax(bad).astype(jnp.int32)
    return jnp.stack([jnp.where(bad.any(), first, -1), num_nan[first], num_inf[first]])


def first_examples(bad_examples: jax.Array | None) -> jax.Array:
    """How many examples are bad, then the first 8 of them, -1 where there are fewer: int32 (1 + 8,).

    Places are sorted: `jnp.nonzero` of a given size takes three times as long to compile.
    """
    if bad_examples is None:
        bad_examples = jnp.zeros(1, bool)
    num = bad_examples.size
    padded = jnp.pad(bad_examples, (0, max(NUM_EXAMPLES_KEPT - num, 0)))
    places = jnp.sort(jnp.where(padded, jnp.arange(padded.size, dtype=jnp.int32), num))[:NUM_EXAMPLES_KEPT]
    return jnp.concatenate([bad_examples.sum(dtype=jnp.int32)[None], jnp.where(places < num, places, -1)])
