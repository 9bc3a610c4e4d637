"""Members of one run: the medians that its lines show, and the member that it is scored by."""

from typing import Any

import numpy as np

from fourbeat.beats import Beats, TrainState
from fourbeat.replicating import Replicas
from fourbeat.runs.printing import say

MEMBERS = "members"


def spread(**groups: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Values to log: of several members the median of each, and in the group `members` all of them.

    A member that has stopped has NaN in its logs, and is left out of a median where others have numbers.

    Args:
      groups: values by name; of members they have the shape (n,).

    Returns:
      The groups; those of one run as they are.

    >>> spread(eval={"loss": np.array([0.5, 0.25, 1.0])})
    {'eval': {'loss': 0.5}, 'members': {'eval_loss': array([0.5 , 0.25, 1.  ])}}
    >>> spread(eval={"loss": 0.5})
    {'eval': {'loss': 0.5}}
    """
    read = {
        group: {name: np.asarray(value) for name, value in values.items()} for group, values in groups.items()
    }
    members = {
        f"{group}_{name}": value
        for group, values in read.items()
        for name, value in values.items()
        if value.ndim
    }
    if not members:
        return groups
    medians = {
        group: {name: _median(value) for name, value in values.items()} for group, values in read.items()
    }
    return {**medians, MEMBERS: members}


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")


def best_member(beats: Beats | Replicas, state: Any, stopping: Any) -> tuple[Beats, TrainState]:
    """The beats and the state of the member with the best score so far, and a line that says which.

    Args:
      beats: of members, or of one run.
      state: theirs.
      stopping: the `MemberStopping` of members.

    Returns:
      Those of one run as they are.

    >>> import jax.numpy as jnp, optax, fourbeat as fb
    >>> beats = fb.four_beats(lambda model, batch: model["w"] * batch["x"], optax.sgd(0.1))
    >>> members = fb.replicas(beats, 2)
    >>> stopping = fb.control.MemberStopping(fb.EarlyStopping(patience=1), 2).update([0.5, 0.25])
    >>> _, state = best_member(members, members.init({"w": jnp.ones(())}), stopping)
    the best of 2 members is member 1: 0.2500; their best scores are 0.2500 to 0.5000
    """
    if not isinstance(beats, Replicas):
        return beats, state
    place, best = stopping.best_member, stopping.best
    seeds = f" (seed {beats.over['seed'][place]})" if "seed" in beats.over else ""
    known = best[~np.isnan(best)]
    scores = f": {best[place]:.4f}; their best scores are {known.min():.4f} to {known.max():.4f}"
    say(f"the best of {len(best)} members is member {place}{seeds}{scores if known.size else ''}")
    return beats.beats, state.member(place)
