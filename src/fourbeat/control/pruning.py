"""Pruning: early stopping that also ends a run where a search over many runs has given it up."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from fourbeat.control.improvement import as_score, int32_scalar
from fourbeat.control.stopping import EarlyStopping
from fourbeat.types import Scalar


@runtime_checkable
class Trial(Protocol):
    """One run of a search, as `optuna.Trial` has it."""

    def report(self, value: float, step: int) -> None:
        """Takes the score of the run after so many scores."""

    def should_prune(self) -> bool:
        """Whether the run is to be given up, by what was reported of it and of the others."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Pruning:
    """An `EarlyStopping` that reports each score to a trial of Optuna, and stops where the trial is pruned.

    It goes where an `EarlyStopping` goes. After the run, `trial.should_prune()` tells whether to raise
    `optuna.TrialPruned`; the run itself ends as one that was stopped early.

    Args:
      trial: an `optuna.Trial`, or anything with its `report` and `should_prune`.
      stopping: what stops the run beside it.

    Attributes:
      num_scores: int32, scores so far; the trial knows each by its number, from 1 on.
      pruned: bool, whether the trial was to be pruned after the last score.

    Raises:
      TypeError: `trial` is no trial.

    References:
      Akiba et al. 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework".

    >>> class Printing:
    ...     def report(self, value, step):
    ...         print(step, value)
    ...
    ...     def should_prune(self):
    ...         return True
    >>> Pruning(Printing(), EarlyStopping(patience=5)).update(0.5).should_stop
    1 0.5
    True
    """

    trial: Trial = field(metadata={"static": True})
    stopping: EarlyStopping
    num_scores: Scalar = field(default_factory=lambda: int32_scalar(0))
    pruned: Scalar = field(default_factory=lambda: np.asarray(False))

    def update(self, value: Scalar) -> Pruning:
        """The state after one more score, which the trial is told.

        Raises:
          TypeError: it is not one number.
        """
        if not isinstance(self.trial, Trial):
            raise TypeError(f"trial is {self.trial!r:.80}; expected an optuna.Trial.")
        score, num_scores = float(as_score(value, "Pruning.update")), int(self.num_scores) + 1
        self.trial.report(score, num_scores)
        return dataclasses.replace(
            self,
            stopping=self.stopping.update(value),
            num_scores=int32_scalar(num_scores),
            pruned=np.asarray(bool(self.trial.should_prune())),
        )

    @property
    def should_stop(self) -> bool:
        """Whether the trial is pruned, or the scores say so."""
        return bool(self.pruned) or self.stopping.should_stop

    @property
    def reason(self) -> str:
        """Why `should_stop` is True, in words; empty where it is False."""
        if self.pruned:
            return f"the search gave the run up after {int(self.num_scores)} scores"
        return self.stopping.reason

    @property
    def best(self) -> Scalar:
        """The best score so far, as of the `EarlyStopping`."""
        return self.stopping.best

    @property
    def improved(self) -> Scalar:
        """Whether the last score was the best."""
        return self.stopping.improved

    def __repr__(self) -> str:
        return f"Pruning({self.stopping!r}, num_scores={self.num_scores}, pruned={self.pruned})"
