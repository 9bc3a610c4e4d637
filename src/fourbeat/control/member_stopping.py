"""Early stopping of several members, each by its own scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from fourbeat.control.improvement import check_count
from fourbeat.control.stopping import EarlyStopping


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, eq=False, repr=False, init=False)
class MemberStopping:
    """One `EarlyStopping` for each member of `fourbeat.replicas`.

    An immutable pytree on the host. It stops no member: hand on what it says, `state.stop(stopping.stopped)`.

    Args:
      stopping: how each member stops.
      n: the number of members.

    Attributes:
      members: an `EarlyStopping` for each member. One that has stopped sees no more scores.

    >>> stopping = MemberStopping(EarlyStopping(patience=1, mode="max"), 2)
    >>> for scores in ([0.5, 0.5], [0.75, 0.25], [0.5, 1.0]):
    ...     stopping = stopping.update(scores)
    ...     print(stopping.stopped.tolist(), stopping.best.tolist(), stopping.best_member)
    [False, False] [0.5, 0.5] 0
    [False, True] [0.75, 0.5] 0
    [True, True] [0.75, 0.5] 0
    """

    members: tuple[EarlyStopping, ...]

    def __init__(self, stopping: EarlyStopping, n: int) -> None:
        if not isinstance(stopping, EarlyStopping):
            raise TypeError(
                f"stopping is {stopping!r:.80}; expected how each member stops, EarlyStopping(patience=3)."
            )
        check_count("MemberStopping", "n", n, 1)
        object.__setattr__(self, "members", (stopping,) * n)

    def update(self, values: Any) -> MemberStopping:
        """The state after one more score of each member.

        Args:
          values: one number a member, such as `scores["accuracy"]`. NaN is never an improvement.

        Raises:
          ValueError: there is not one number a member.
        """
        values = np.asarray(values)
        if values.shape != (len(self.members),):
            raise ValueError(
                f"MemberStopping.update takes one score for each of {len(self.members)} members, not an "
                f"array of shape {values.shape}."
            )
        pairs = zip(self.members, values, strict=True)
        members = tuple(each if each.should_stop else each.update(value) for each, value in pairs)
        return _of(members)

    @property
    def stopped(self) -> np.ndarray:
        """Which members have stopped: bool (n,)."""
        return np.array([each.should_stop for each in self.members])

    @property
    def should_stop(self) -> bool:
        """Whether all members have stopped."""
        return bool(self.stopped.all())

    @property
    def reason(self) -> str:
        """Why `should_stop` is True, in words; empty where it is False."""
        return f"each of {len(self.members)} members by its own scores" if self.should_stop else ""

    @property
    def best(self) -> np.ndarray:
        """The best score of each member so far, float32 (n,); NaN for one that has none."""
        return np.array([each.best for each in self.members], np.float32)

    @property
    def best_member(self) -> int:
        """The member with the best score so far; the first of equals, and 0 where none has a score."""
        scores = self.best if self.members[0].mode == "max" else -self.best
        return int(np.argmax(np.where(np.isnan(scores), -np.inf, scores)))

    def tree_flatten_with_keys(self):
        return ((jax.tree_util.GetAttrKey("members"), self.members),), None

    @classmethod
    def tree_unflatten(cls, static: None, parts: tuple[Any, ...]) -> MemberStopping:
        return _of(*parts)

    def __repr__(self) -> str:
        num_stopped = int(self.stopped.sum())
        return (
            f"MemberStopping({len(self.members)} members, {num_stopped} stopped, best={self.best.tolist()})"
        )


def _of(members: Any) -> MemberStopping:
    stopping = object.__new__(MemberStopping)
    object.__setattr__(stopping, "members", members)
    return stopping
