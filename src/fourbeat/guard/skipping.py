"""The guard that skips bad steps."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from numbers import Real

import jax
import jax.numpy as jnp

from fourbeat.guard.guard_state import GuardState, first_bad, first_examples, num_bad_values, start


@dataclasses.dataclass(frozen=True)
class Spike:
    """What counts as a spike: a loss or a gradient norm far above its running mean.

    A loss counts as one where `loss - mean(loss) > (factor - 1) * mean(abs(loss))`, which for positive
    losses is `factor` times their mean; a gradient norm where it is over `factor` times its mean. The
    means are over about the last `window` applied steps (exponential, debiased); nothing is a spike
    before there were so many. Skipped steps do not enter the means, so a loss that jumps and stays there is
    skipped for ever: `check(state, max_consecutive=)` notices this.

    Args:
      window: applied steps, at least 1.
      factor: above 1.

    Raises:
      ValueError: an argument is out of range.

    >>> Spike(window=100, factor=10.0)
    Spike(window=100, factor=10.0)
    """

    window: int
    factor: float

    def __post_init__(self) -> None:
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 1:
            raise ValueError(f"Spike: window={self.window!r} must be an int of at least 1, in steps.")
        if not (isinstance(self.factor, Real) and 1 < self.factor < math.inf):
            raise ValueError(f"Spike: factor={self.factor!r} must be a finite number above 1.")


@dataclasses.dataclass(frozen=True)
class Skip:
    """A guard that skips bad steps. Made by `skip`; in a loop of your own, three calls to a step.

    >>> guard = skip()
    >>> seen, loss, grads, param = guard.init(), jnp.float32(jnp.nan), [jnp.zeros(2)], jnp.ones(2)
    >>> good, finite = guard.is_good(seen, loss, jnp.linalg.norm(grads[0]))
    >>> param = jnp.where(good, param - grads[0], param)
    >>> bad_values = lambda: [num_bad_values(grads[0]), num_bad_values(param)]
    >>> seen = guard.after(seen, good, good, jnp.int32(1), loss, jnp.float32(0), bad_values, None)
    >>> bool(good), int(seen.num_skipped)
    (False, 1)
    """

    spike: Spike | None = None

    def init(self) -> GuardState:
        """The state of a guard that has seen nothing."""
        return start(2 if self.spike is None else 6)

    def is_good(self, guard: GuardState, loss: jax.Array, *norms: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Whether a step may be applied, and whether its numbers are finite: two bool scalars.

        Args:
          guard: before the step.
          loss: float32 scalar.
          norms: of the gradients, then of the update; a norm is finite where all of its values are.
        """
        finite = jnp.isfinite(loss)
        for norm in norms:
            finite &= jnp.isfinite(norm)
        if self.spike is None:
            return finite, finite
        mean_loss, mean_size, mean_norm, count = guard.values[2:]
        far = (loss - mean_loss > (self.spike.factor - 1) * mean_size) | (
            norms[0] > self.spike.factor * mean_norm
        )
        return finite & ~(far & (count >= self.spike.window)), finite

    def after(
        self,
        guard: GuardState,
        good: jax.Array,
        applied: jax.Array,
        step: jax.Array,
        loss: jax.Array,
        grad_norm: jax.Array,
        bad_values: Callable[[], Sequence[tuple[jax.Array, jax.Array]]],
        bad_examples: jax.Array | None,
    ) -> GuardState:
        """What the guard has seen after one more step.

        Args:
          guard: before the step.
          good: bool scalar, from `is_good`.
          applied: bool scalar, `good` less the batches of no weight.
          step: int32 scalar, this step as `tick.step` counts.
          loss: float32 scalar.
          grad_norm: scalar.
          bad_values: counts NaN and Inf in each gradient, then in each updated parameter: pairs of int32
            scalars, from `num_bad_values`. Runs after a bad step alone.
          bad_examples: bool (batch,), or None.
        """
        before = guard.numbers
        skipped = before[0] + ~applied

        def record_good() -> tuple[jax.Array, jax.Array]:
            numbers = before.at[0].set(skipped).at[2].set(jnp.where(applied, 0, before[2]))
            return numbers, self._means(guard.values, applied, loss, grad_norm)

        def record_bad() -> tuple[jax.Array, jax.Array]:
            consecutive = before[2] + 1
            counts = [skipped, before[1] + 1, consecutive, jnp.maximum(before[3], consecutive), step]
            numbers = [jnp.asarray(count, jnp.int32)[None] for count in counts]
            numbers += [first_bad([*bad_values(), num_bad_values(loss)]), first_examples(bad_examples)]
            values = guard.values.at[0].set(loss).at[1].set(grad_norm.astype(jnp.float32))
            return jnp.concatenate(numbers), values

        return GuardState(*jax.lax.cond(good, record_good, record_bad))

    def _means(
        self, values: jax.Array, applied: jax.Array, loss: jax.Array, grad_norm: jax.Array
    ) -> jax.Array:
        if self.spike is None:
            return values
        means, count = values[2:5], values[5]
        rate = jnp.maximum(1 / self.spike.window, 1 / (count + 1))
        seen = jnp.stack([loss, jnp.abs(loss), grad_norm.astype(jnp.float32)])
        means = means + rate * (seen - means)
        count = jnp.minimum(count + 1, self.spike.window)
        return jnp.where(applied, jnp.concatenate([values[:2], means, count[None]]), values)


def skip(spike: Spike | None = None) -> Skip:
    """A guard that skips bad steps: `four_beats(..., guard=fb.guard.skip())`.

    A step is bad where its loss, a gradient or an updated parameter is not finite, on whichever device;
    or, with `spike`, where its loss or gradient norm explodes. It leaves parameters, optimizer state,
    averages, statistics, random state and metrics as they were, advances `state.step`, and is recorded in
    `state.guard`. The compiled step decides: nothing is copied to the host. A guard that never
    fires leaves the numbers as they would be without it, to the bit for most models; `docs/laws.md` says
    where the last bits of a few differ.

    Args:
      spike: which finite numbers count as bad too; None for none.

    Raises:
      TypeError: `spike` is not a `Spike`.

    >>> skip(spike=Spike(window=50, factor=20.0))
    Skip(spike=Spike(window=50, factor=20.0))
    """
    if spike is not None and not isinstance(spike, Spike):
        raise TypeError(f"spike is {spike!r}. Pass fb.guard.Spike(window=100, factor=10.0), or None.")
    return Skip(spike)
