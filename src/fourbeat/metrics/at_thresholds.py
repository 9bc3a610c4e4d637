"""Precision and recall of class 1 at several thresholds: points of the curve of one over the other."""

import abc
import math
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Self, final

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.class_counts import check_seen_classes
from fourbeat.metrics.classified import read_classified
from fourbeat.metrics.ranking import scores_by_class
from fourbeat.metrics.summed import Summed


@dataclass(frozen=True, eq=False, repr=False)
class AtThresholds(Summed):
    """A metric that is a ratio of counts at each threshold."""

    thresholds: tuple[float, ...] = field(kw_only=True, metadata={"static": True})
    logits: str = field(default="logits", kw_only=True, metadata={"static": True})
    labels: str = field(default="labels", kw_only=True, metadata={"static": True})

    @abc.abstractmethod
    def ratio(self, true: jax.Array, predicted: jax.Array, actual: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Numerator and denominator, from what `ClassRatio.ratio` is given, for class 1 at each threshold."""

    def sums_shape(self) -> tuple[int, ...]:
        name = type(self).__name__
        given = self.thresholds
        is_sequence = isinstance(given, list | tuple) and len(given) > 0
        if not is_sequence or not all(isinstance(each, Real) and math.isfinite(each) for each in given):
            raise ValueError(
                f"{name} needs thresholds, a tuple of finite numbers, and got {given!r}. "
                f"Write {name}(thresholds=(0.1, 0.5, 0.9))."
            )
        object.__setattr__(self, "thresholds", tuple(float(each) for each in given))
        return 3, len(given)

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        seen = read_classified(self, values, weight, logits=self.logits, labels=self.labels)
        if seen.num_classes != 2:
            check_seen_classes(self, seen, 2)
        above = scores_by_class(seen)[0][:, None] > jnp.float32(self.thresholds)
        weights, is_one = seen.weight.ravel()[:, None], (seen.labels.ravel() == 1)[:, None]
        counted = [above & is_one, above, jnp.broadcast_to(is_one, above.shape)]
        return self.add(jnp.stack([jnp.sum(jnp.where(each, weights, 0), axis=0) for each in counted]))

    def compute(self) -> jax.Array:
        numerator, denominator = self.ratio(*self.total)
        some = denominator != 0
        return jnp.where(some, numerator / jnp.where(some, denominator, 1), 0)


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class PrecisionAtThresholds(AtThresholds):
    """Precision of class 1 where it is predicted above each threshold: a float32 array, one number each.

    Equal to scikit-learn's `precision_score(labels, scores > threshold)`; 0 where class 1 is never predicted.

    Args:
      thresholds: of the scores: of probabilities from 0 to 1.
      logits: name of a real array (...), any score that is higher for class 1; or (..., 2), whose score is
        the logit of class 1 less that of class 0.
      labels: name of an integer array (...), 0 or 1. Examples of another label are left out.

    Raises:
      ValueError: the thresholds are no finite numbers, or there are more than two classes.

    >>> import jax.numpy as jnp
    >>> scores, labels = jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])
    >>> PrecisionAtThresholds(thresholds=(0.3, 0.5)).update(logits=scores, labels=labels).compute().round(4)
    Array([0.6667, 1.    ], dtype=float32)
    """

    def ratio(self, true, predicted, actual):
        return true, predicted


@final
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class RecallAtThresholds(AtThresholds):
    """Recall of class 1 where it is predicted above each threshold: a float32 array, one number each.

    Equal to scikit-learn's `recall_score(labels, scores > threshold)`; 0 where no example is of class 1. Its
    options are those of `PrecisionAtThresholds`.

    Args:
      thresholds: of the scores: of probabilities from 0 to 1.
      logits: name of a real array.
      labels: name of an integer array.

    Raises:
      ValueError: the thresholds are no finite numbers, or there are more than two classes.

    >>> import jax.numpy as jnp
    >>> scores, labels = jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])
    >>> RecallAtThresholds(thresholds=(0.3, 0.5)).update(logits=scores, labels=labels).compute()
    Array([1. , 0.5], dtype=float32)
    """

    def ratio(self, true, predicted, actual):
        return true, actual
