"""Whether an optimizer let a step's update through to the parameters, or kept it back."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def let_through(before: Any, after: Any) -> jax.Array | None:
    """Whether the update of a step changed the parameters; None where the optimizer keeps nothing back.

    `optax.MultiSteps` and `optax.apply_every` let every k-th through, `optax.apply_if_finite` those that
    are finite. They are looked for in the whole optimizer, in chains, and in the groups of
    `optax.partition`: there one group that lets its update through is enough.

    Args:
      before: the optimizer's state before the update.
      after: its state after it.
    """
    if isinstance(after, optax.MultiStepsState):
        return _all([after.gradient_step > before.gradient_step, _inner("inner_opt_state", before, after)])
    if isinstance(after, optax.ApplyIfFiniteState):
        return _all([after.last_finite, _inner("inner_state", before, after)])
    if isinstance(after, optax.ApplyEvery):
        return jnp.equal(after.count, 0)  # of the steps since the last one that was let through
    if isinstance(after, optax.transforms.PartitionState):
        groups = [let_through(before.inner_states[name], each) for name, each in after.inner_states.items()]
        known = [verdict for verdict in groups if verdict is not None]
        return jnp.stack(known).any() if known and len(known) == len(groups) else None
    if type(after) is tuple:
        return _all(let_through(*pair) for pair in zip(before, after, strict=True))
    if hasattr(after, "inner_state"):  # masked, injected hyperparameters
        return _inner("inner_state", before, after)
    return None


def both(one: jax.Array | None, other: jax.Array | None) -> jax.Array | None:
    """Whether one and the other hold; None stands for what always does.

    >>> both(None, None), both(None, jnp.array(False))
    (None, Array(False, dtype=bool))
    """
    return _all([one, other])


def _inner(name: str, before: Any, after: Any) -> jax.Array | None:
    return let_through(getattr(before, name), getattr(after, name))


def _all(verdicts: Iterable[jax.Array | None]) -> jax.Array | None:
    known = [verdict for verdict in verdicts if verdict is not None]
    return jnp.stack(known).all() if len(known) > 1 else next(iter(known), None)
