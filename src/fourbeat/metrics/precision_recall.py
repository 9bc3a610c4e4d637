"""Precision, recall, their harmonic mean F1 and other F-scores, by class or averaged over classes."""

import math
from dataclasses import dataclass, field
from numbers import Real
from typing import final

import jax

from fourbeat.metrics.class_counts import ClassRatio


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Precision(ClassRatio):
    """Weighted fraction of the examples predicted to be of a class that are of that class.

    Equal to scikit-learn's `precision_score(labels=range(num_classes), zero_division=0)`: a
    class that is never predicted counts as 0, and "macro" is the mean over all classes, seen or
    not. Examples whose label is no class are left out. Computes 0 where nothing was seen.

    Args:
      num_classes: how many classes there are, C; at least 2.
      average: "macro" for the mean over classes, "weighted" for the mean weighted by the examples of each
        class, "micro" for the ratio of the sums over classes, None for a float32 array (C,). For class 1
        of two classes take None, and then `[1]`.
      absent: what a class counts that is neither a label nor a prediction of any example: "zero", or "skip"
        to leave it out of the average, as scikit-learn does without `labels=`. NaN stands for such a class
        under `average=None`, and for the average where nothing was seen.
      threshold: above which class 1 of two is predicted, for logits (...), such as 0.5 for probabilities;
        None for 0.
      logits: name of a real array (..., C); or (...) for two classes.
      labels: name of an integer array (...).

    Raises:
      ValueError: an option is none of these.

    >>> import jax.numpy as jnp
    >>> logits, labels = jnp.array([2.0, 3.0, -1.0, 1.0]), jnp.array([1, 1, 1, 0])
    >>> metric = Precision(num_classes=2, average=None)
    >>> metric.update(logits=logits, labels=labels, weight=jnp.array([1, 1, 2, 2])).compute()
    Array([0. , 0.5], dtype=float32)
    """

    def ratio(self, true, predicted, actual):
        return true, predicted


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Recall(ClassRatio):
    """Weighted fraction of the examples of a class that were predicted to be of that class.

    Equal to scikit-learn's `recall_score(labels=range(num_classes), zero_division=0)`: a class of which
    there is no example counts as 0. Its options, and which examples count, are those of `Precision`.

    Args:
      num_classes: how many classes there are, C; at least 2.
      average: "macro", "weighted", "micro" or None.
      absent: "zero" or "skip".
      threshold: of class 1 of two, for logits (...).
      logits: name of a real array.
      labels: name of an integer array.

    >>> import jax.numpy as jnp
    >>> logits, labels = jnp.array([2.0, 3.0, -1.0, 1.0]), jnp.array([1, 1, 1, 0])
    >>> metric = Recall(num_classes=2, average=None)
    >>> metric.update(logits=logits, labels=labels, weight=jnp.array([1, 1, 2, 2])).compute()
    Array([0. , 0.5], dtype=float32)
    """

    def ratio(self, true, predicted, actual):
        return true, actual


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class F1(ClassRatio):
    """Harmonic mean of precision and recall, `2 * true / (predicted + actual)`.

    Equal to scikit-learn's `f1_score(labels=range(num_classes), zero_division=0)`: a class that is neither
    seen nor predicted counts as 0. Its options, and which examples count, are those of `Precision`.

    Args:
      num_classes: how many classes there are, C; at least 2.
      average: "macro", "weighted", "micro" or None.
      absent: "zero" or "skip".
      threshold: of class 1 of two, for logits (...).
      logits: name of a real array.
      labels: name of an integer array.

    >>> import jax.numpy as jnp
    >>> logits, labels = jnp.array([2.0, 3.0, -1.0, 1.0]), jnp.array([1, 1, 1, 0])
    >>> metric = F1(num_classes=2, average=None)
    >>> metric.update(logits=logits, labels=labels, weight=jnp.array([1, 1, 2, 2])).compute()
    Array([0. , 0.5], dtype=float32)
    """

    def ratio(self, true, predicted, actual):
        return 2 * true, predicted + actual


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class FBeta(ClassRatio):
    """Harmonic mean of precision and recall, in which recall counts `beta` times as much as precision.

    Equal to scikit-learn's `fbeta_score(labels=range(num_classes), zero_division=0)`; `beta=1` is `F1`. Its
    other options, and which examples count, are those of `Precision`.

    Args:
      beta: above 0, such as 2 where a missed example is worse than a false alarm.
      num_classes: how many classes there are, C; at least 2.
      average: "macro", "weighted", "micro" or None.
      absent: "zero" or "skip".
      threshold: of class 1 of two, for logits (...).
      logits: name of a real array.
      labels: name of an integer array.

    >>> import jax.numpy as jnp
    >>> logits, labels = jnp.array([2.0, 3.0, -1.0, 1.0]), jnp.array([1, 1, 1, 0])
    >>> metric = FBeta(beta=2, num_classes=2, average=None)
    >>> metric.update(logits=logits, labels=labels, weight=jnp.array([1, 1, 2, 2])).compute()
    Array([0. , 0.5], dtype=float32)
    """

    beta: float = field(kw_only=True, metadata={"static": True})

    def sums_shape(self):
        if not (isinstance(self.beta, Real) and 0 < self.beta < math.inf):
            raise ValueError(
                f"FBeta needs beta, a finite number above 0, and got {self.beta!r}. "
                "Write FBeta(beta=2, num_classes=10), or F1 for 1."
            )
        return super().sums_shape()

    def ratio(self, true, predicted, actual):
        squared = float(self.beta) ** 2
        return (1 + squared) * true, predicted + squared * actual
