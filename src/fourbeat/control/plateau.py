"""Reduce on plateau: a smaller learning rate when a score has not improved for a while."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from numbers import Real

import jax
import numpy as np

from fourbeat.control.improvement import (
    as_score,
    check_count,
    check_mode,
    float32_scalar,
    int32_scalar,
    is_better,
)
from fourbeat.types import Scalar

_CALL = "ReduceOnPlateau"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class ReduceOnPlateau:
    """A scale for the updates that shrinks when a score stops improving.

    An immutable pytree on the host: `update` returns a new one. Hand its scale on yourself:
    `state = state.replace(lr_scale=plateau.scale)`. It counts as PyTorch's `ReduceLROnPlateau` does
    with an absolute threshold, or with a relative one where `relative` is True. Keras counts one fewer of
    both: for its `patience=p, cooldown=c` write `patience=p - 1, cooldown=c - 1`, and 0 where it has 0.

    Args:
      factor: what the scale is multiplied by, above 0 and below 1.
      patience: how many scores in a row may fail to improve, at least 0; the next one that fails
        reduces the scale. (`EarlyStopping` stops at the last of its patience, one earlier.)
      mode: "min" where less is better, "max" where more is; scores of any sign.
      min_delta: a score counts as better where it is better by more than this, in its own unit.
      relative: whether `min_delta` is a fraction of the best score's magnitude instead: 0.01 is one percent.
      cooldown: how many scores after a reduction are not counted as failing.
      min_scale: the scale never falls below this, from 0 to 1.

    Attributes:
      scale: float32, starts at 1.
      reduced: bool, whether the last score made the scale smaller.
      best: float32, the best score so far; NaN before the first one.
      num_bad: int32, scores since the last improvement or reduction.
      num_cooldown: int32, scores that are still to go uncounted.

    Raises:
      ValueError: an argument is out of range.

    References:
      https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html

    >>> plateau = ReduceOnPlateau(factor=0.5, patience=1)
    >>> for loss in (-1.0, -1.0, -1.0, -2.0):
    ...     plateau = plateau.update(loss)
    ...     print(float(plateau.scale))
    1.0
    1.0
    0.5
    0.5
    """

    factor: float = field(metadata={"static": True})
    patience: int = field(metadata={"static": True})
    mode: str = field(default="min", metadata={"static": True})
    min_delta: float = field(default=0.0, metadata={"static": True})
    cooldown: int = field(default=0, metadata={"static": True})
    min_scale: float = field(default=0.0, metadata={"static": True})
    relative: bool = field(default=False, kw_only=True, metadata={"static": True})
    scale: Scalar = field(default_factory=lambda: float32_scalar(1.0))
    reduced: Scalar = field(default_factory=lambda: np.asarray(False))
    best: Scalar = field(default_factory=lambda: float32_scalar(np.nan))
    num_bad: Scalar = field(default_factory=lambda: int32_scalar(0))
    num_cooldown: Scalar = field(default_factory=lambda: int32_scalar(0))

    def __post_init__(self) -> None:
        if not (isinstance(self.factor, Real) and 0 < self.factor < 1):
            raise ValueError(f"{_CALL}: factor={self.factor!r} must be above 0 and below 1.")
        if not (isinstance(self.min_scale, Real) and 0 <= self.min_scale <= 1):
            raise ValueError(f"{_CALL}: min_scale={self.min_scale!r} must be from 0 to 1.")
        check_count(_CALL, "patience", self.patience, 0)
        check_count(_CALL, "cooldown", self.cooldown, 0)
        check_mode(_CALL, self.mode, self.min_delta, self.relative)

    def update(self, value: Scalar) -> ReduceOnPlateau:
        """The state after one more score.

        Args:
          value: a number or a scalar array; one on a device is waited for and copied to the host.
            NaN is never an improvement. It is compared in float32.

        Raises:
          TypeError: it is not one number.
        """
        score = as_score(value, f"{_CALL}.update")
        improved = is_better(score, self.best, self.mode, self.min_delta, self.relative)
        num_bad = 0 if improved else int(self.num_bad) + 1
        num_cooldown = int(self.num_cooldown)
        if num_cooldown > 0:
            num_cooldown -= 1
            num_bad = 0
        scale = np.asarray(self.scale, dtype=np.float32)
        smaller = scale
        if num_bad > self.patience:
            smaller = np.maximum(scale * np.float32(self.factor), np.float32(self.min_scale))
            num_bad, num_cooldown = 0, self.cooldown
        return dataclasses.replace(
            self,
            scale=float32_scalar(float(smaller)),
            reduced=np.asarray(bool(smaller < scale)),
            best=score if improved else self.best,
            num_bad=int32_scalar(num_bad),
            num_cooldown=int32_scalar(num_cooldown),
        )

    def __repr__(self) -> str:
        return (
            f"{_CALL}(factor={self.factor}, patience={self.patience}, mode={self.mode!r}, "
            f"scale={self.scale}, best={self.best}, num_bad={self.num_bad})"
        )
