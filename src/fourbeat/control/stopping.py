"""Early stopping: when a score has not improved for a while."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

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

_CALL = "EarlyStopping"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class EarlyStopping:
    """Says when to stop: after `patience` scores in a row that did not improve.

    An immutable pytree on the host: `update` returns a new one, and it is saved like any other
    state. It does not stop the loop; ask `should_stop` where you want to.

    Args:
      patience: after how many scores in a row without improvement `should_stop` is True, at least 1. With a
        patience of 3, the scores 6, 5, 5, 5, 5 stop at the last: it is the third that was no better than 5.
        (`ReduceOnPlateau` waits, as PyTorch does, for one more.)
      mode: "min" where less is better, "max" where more is.
      min_delta: a score counts as better where it is better by more than this, in its own unit.

    Attributes:
      best: float32, the best score so far; NaN before the first one.
      num_bad: int32, scores since then.
      improved: bool, whether the last score was the best.

    Raises:
      ValueError: an argument is out of range.

    >>> stopping = EarlyStopping(patience=2, mode="max")
    >>> for accuracy in (0.5, 0.75, 0.75, float("nan")):
    ...     stopping = stopping.update(accuracy)
    ...     print(float(stopping.best), bool(stopping.improved), stopping.should_stop)
    0.5 True False
    0.75 True False
    0.75 False False
    0.75 False True
    """

    patience: int = field(metadata={"static": True})
    mode: str = field(default="min", metadata={"static": True})
    min_delta: float = field(default=0.0, metadata={"static": True})
    best: Scalar = field(default_factory=lambda: float32_scalar(np.nan))
    num_bad: Scalar = field(default_factory=lambda: int32_scalar(0))
    improved: Scalar = field(default_factory=lambda: np.asarray(False))

    def __post_init__(self) -> None:
        repair = " Use 1 to stop at the first score that is no better, as Keras does for 0 and 1 alike."
        check_count(_CALL, "patience", self.patience, 1, repair if self.patience == 0 else "")
        check_mode(_CALL, self.mode, self.min_delta)

    def update(self, value: Scalar) -> EarlyStopping:
        """The state after one more score.

        Args:
          value: a number or a scalar array; one on a device is waited for and copied to the host.
            NaN is never an improvement. It is compared in float32.

        Raises:
          TypeError: it is not one number.
        """
        score = as_score(value, f"{_CALL}.update")
        improved = is_better(score, self.best, self.mode, self.min_delta)
        return dataclasses.replace(
            self,
            best=score if improved else self.best,
            num_bad=int32_scalar(0 if improved else int(self.num_bad) + 1),
            improved=np.asarray(improved),
        )

    @property
    def should_stop(self) -> bool:
        """Whether the last `patience` scores were no improvement."""
        return int(self.num_bad) >= self.patience

    def __repr__(self) -> str:
        return (
            f"{_CALL}(patience={self.patience}, mode={self.mode!r}, min_delta={self.min_delta}, "
            f"best={self.best}, num_bad={self.num_bad})"
        )
