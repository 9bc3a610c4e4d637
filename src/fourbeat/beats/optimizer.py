"""The optax transformation as the beats hold it: its keys, its learning rate, the updates it keeps back."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fourbeat.beats.error_notes import listed
from fourbeat.trees.keys import as_data, as_keys
from fourbeat.types import Object, OptState, State, Tree


def held(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`tx` whose state holds typed PRNG keys as their data, and whose `init` shows the parameters in errors.

    Raises:
      TypeError: `tx` is no optax transformation.

    >>> held(optax.add_noise(0.1, 0.5, key=0)).init({"w": 1.0}).rng_key.data
    Array([0, 0], dtype=uint32)
    """
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        raise TypeError(
            f"tx is {tx!r}, not an optax transformation. Pass one, such as optax.adamw(1e-3), without init."
        )
    taking = optax.with_extra_args_support(tx)

    def init(params: Tree) -> Any:
        try:
            return as_data(tx.init(params))
        except Exception as error:
            error.add_note(
                f"Raised in tx.init. It was given the parameters as nested dicts of arrays: "
                f"{listed(params, 'params')}. Labels and masks have this structure, not the model's: make "
                "them of what tx.init is given, by a function of params such as optax.partition(transforms, "
                "lambda params: jax.tree.map_with_path(label, params)), or of fb.split(model)[1]."
            )
            raise

    def update(updates: Tree, state: State, params: Tree = None, **extra_args: Any) -> tuple[Any, Any]:
        try:
            updates, state = taking.update(updates, as_keys(state), params, **extra_args)
        except (TypeError, ValueError) as error:
            for name in ("value_fn", "obj_fn"):
                if name in str(error) and name not in extra_args:
                    error.add_note(f"Pass it in a step of your own: beats.update(..., {name}=).")
            raise
        return updates, as_data(state)

    return optax.GradientTransformationExtraArgs(init, update)


def learning_rate(schedule: Callable | None, state: State, opt_state: OptState) -> jax.Array | None:
    """The rate of the update that made `opt_state`, times `lr_scale`: float32 scalar, or None if unknown.

    With a schedule it is the schedule's at the count of applied updates: the count that optax itself keeps
    where there is one alone, else `state.num_updates`. Without a schedule it is the one hyperparameter
    named `learning_rate` of `optax.inject_hyperparams`.

    Args:
      schedule: `schedule(count)`, or None.
      state: before the update.
      opt_state: after the update.
    """
    if schedule is not None:
        rate = schedule(_count(state))
    else:
        rates = [
            node.hyperparams["learning_rate"]
            for node in _nodes(opt_state, "hyperparams")
            if "learning_rate" in node.hyperparams
        ]
        if len(rates) != 1:
            return None
        (rate,) = rates
    return jnp.asarray(rate, jnp.float32) * state.lr_scale


def _count(state: State) -> jax.Array:
    counts = [
        node.count
        for node in jax.tree.leaves(state.opt_state, is_leaf=_is_schedule_state)
        if _is_schedule_state(node)
    ]
    return counts[0] if len(counts) == 1 else state.num_updates


def _is_schedule_state(node: Object) -> bool:
    return isinstance(node, optax.ScaleByScheduleState)


def _nodes(tree: Tree, attribute: str) -> list[Any]:
    has = lambda node: hasattr(node, attribute)
    return [node for node in jax.tree.leaves(tree, is_leaf=has) if has(node)]


def was_applied(before: Object, after: Object) -> jax.Array | None:
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
        groups = [was_applied(before.inner_states[name], each) for name, each in after.inner_states.items()]
        known = [verdict for verdict in groups if verdict is not None]
        return jnp.stack(known).any() if known and len(known) == len(groups) else None
    if type(after) is tuple:
        return _all(was_applied(*pair) for pair in zip(before, after, strict=True))
    if hasattr(after, "inner_state"):  # masked, injected hyperparameters
        return _inner("inner_state", before, after)
    return None


def both(one: jax.Array | None, other: jax.Array | None) -> jax.Array | None:
    """Whether both conditions hold; None stands for a condition that always holds.

    >>> both(None, None), both(None, jnp.array(False))
    (None, Array(False, dtype=bool))
    """
    return _all([one, other])


def _inner(name: str, before: Object, after: Object) -> jax.Array | None:
    return was_applied(getattr(before, name), getattr(after, name))


def _all(verdicts: Iterable[jax.Array | None]) -> jax.Array | None:
    known = [verdict for verdict in verdicts if verdict is not None]
    return jnp.stack(known).all() if len(known) > 1 else next(iter(known), None)
