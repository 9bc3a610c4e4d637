"""Early stopping: when a score has not improved for a while, missed its baseline, or ran away."""

from __future__ import annotations

import dataclasses
import math
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
from fourbeat.types import Object, Scalar

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
      relative: whether `min_delta` is a fraction of the best score's magnitude instead: 0.01 is one percent.
      baseline: a score to beat, as in Keras: a score that is no better than it, by `min_delta`, counts
        against the patience even where it improves on the best. A run that never beats it stops after
        `patience` scores.
      divergence: a limit. A score that is worse than it, or that is NaN, stops at once. Without it NaN counts
        as any score that does not improve.

    Attributes:
      best: float32, the best score so far; NaN before the first one.
      num_bad: int32, scores since then; with a baseline, since the last improvement that beat it.
      improved: bool, whether the last score was the best.
      last: float32, the last score; NaN before the first one.

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
    >>> stopping.reason
    'the last 2 scores were no better than the best, 0.75'
    >>> EarlyStopping(patience=5, divergence=10.0).update(12.5).reason
    'the last score, 12.5, is above divergence=10.0'
    """

    patience: int = field(metadata={"static": True})
    mode: str = field(default="min", metadata={"static": True})
    min_delta: float = field(default=0.0, metadata={"static": True})
    relative: bool = field(default=False, kw_only=True, metadata={"static": True})
    baseline: float | None = field(default=None, kw_only=True, metadata={"static": True})
    divergence: float | None = field(default=None, kw_only=True, metadata={"static": True})
    best: Scalar = field(default_factory=lambda: float32_scalar(np.nan))
    num_bad: Scalar = field(default_factory=lambda: int32_scalar(0))
    improved: Scalar = field(default_factory=lambda: np.asarray(False))
    last: Scalar = field(default_factory=lambda: float32_scalar(np.nan))

    def __post_init__(self) -> None:
        repair = " Use 1 to stop at the first score that is no better, as Keras does for 0 and 1 alike."
        check_count(_CALL, "patience", self.patience, 1, repair if self.patience == 0 else "")
        check_mode(_CALL, self.mode, self.min_delta, self.relative)
        _check_limits(self.mode, self.baseline, self.divergence)

    def update(self, value: Scalar) -> EarlyStopping:
        """The state after one more score.

        Args:
          value: a number or a scalar array; one on a device is waited for and copied to the host.
            NaN is never an improvement. It is compared in float32.

        Raises:
          TypeError: it is not one number.
        """
        score = as_score(value, f"{_CALL}.update")
        improved = self._is_better(score, self.best)
        is_good = improved and (self.baseline is None or self._is_better(score, self.baseline))
        return dataclasses.replace(
            self,
            best=score if improved else self.best,
            num_bad=int32_scalar(0 if is_good else int(self.num_bad) + 1),
            improved=np.asarray(improved),
            last=score,
        )

    @property
    def should_stop(self) -> bool:
        """Whether the last `patience` scores were no improvement, or the last is beyond `divergence`."""
        return int(self.num_bad) >= self.patience or self._has_diverged()

    @property
    def reason(self) -> str:
        """Why `should_stop` is True, in words; empty where it is False."""
        if self._has_diverged():
            last, limit = float(self.last), f"divergence={self.divergence}"
            if math.isnan(last):
                return f"the last score is NaN, and {limit} is a limit"
            return f"the last score, {last:.6g}, is {'above' if self.mode == 'min' else 'below'} {limit}"
        if int(self.num_bad) < self.patience:
            return ""
        count, best = int(self.num_bad), float(self.best)
        scores, were = ("score", "was") if count == 1 else (f"{count} scores", "were")
        if math.isnan(best):
            return f"the last {scores} {were} NaN, and there was no other"
        if self.baseline is not None and not self._is_better(as_score(best, _CALL), self.baseline):
            none = "the only score did not beat" if count == 1 else f"none of {count} scores beat"
            return f"{none} baseline={self.baseline}{self._delta()}; the best was {best:.6g}"
        return f"the last {scores} {were} no better than the best, {best:.6g}{self._delta()}"

    def _is_better(self, score: np.ndarray, best: Scalar) -> bool:
        return is_better(score, best, self.mode, self.min_delta, self.relative)

    def _has_diverged(self) -> bool:
        # before the first score too, the last one is NaN
        if self.divergence is None or (int(self.num_bad) == 0 and not bool(self.improved)):
            return False
        last, limit = np.asarray(self.last, np.float32), np.float32(self.divergence)
        return bool(np.isnan(last) or (last > limit if self.mode == "min" else last < limit))

    def _delta(self) -> str:
        if not self.min_delta:
            return ""
        return f" by more than {self.min_delta:.6g}" + (" of its magnitude" if self.relative else "")

    def __repr__(self) -> str:
        more = "".join(
            f"{name}={value}, "
            for name, value in (
                ("relative", self.relative or None),
                ("baseline", self.baseline),
                ("divergence", self.divergence),
            )
            if value is not None
        )
        return (
            f"{_CALL}(patience={self.patience}, mode={self.mode!r}, min_delta={self.min_delta}, {more}"
            f"best={self.best}, num_bad={self.num_bad})"
        )


def _check_limits(mode: str, baseline: Object, divergence: Object) -> None:
    for name, value in (("baseline", baseline), ("divergence", divergence)):
        is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not is_number:
            raise ValueError(f"{_CALL}: {name}={value!r} must be a finite number, in the unit of the score.")
    if isinstance(baseline, Real) and isinstance(divergence, Real):
        is_beyond = baseline >= divergence if mode == "min" else baseline <= divergence
        if is_beyond:
            better = "below" if mode == "min" else "above"
            raise ValueError(
                f"{_CALL}: baseline={baseline} must be {better} divergence={divergence}: with mode={mode!r} "
                "a score as good as the baseline would stop at once."
            )
