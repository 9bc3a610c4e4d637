"""Precision, recall and their harmonic mean F1, by class or averaged over classes."""

from dataclasses import dataclass
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
      average: "macro" for the mean over classes, "micro" for the ratio of the sums over classes,
        None for a float32 array (C,). For class 1 of two classes take None, and then `[1]`.
      logits: name of a real array (..., C); or (...) for two classes, class 1 above 0.
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
      average: "macro", "micro" or None.
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
      average: "macro", "micro" or None.
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
