"""Counts by class, and the averages over classes that precision, recall and F1 are."""

from typing import Any, Final, Literal

import jax
import jax.numpy as jnp

from fourbeat.metrics.classified import Classified
from fourbeat.metrics.metric import Metric

Average = Literal["macro", "micro"] | None

_AVERAGES: Final = ("macro", "micro", None)


def check_class_options(metric_name: str, num_classes: Any, average: Any = None) -> None:
    """Raise unless the options are ones that a metric by class can have.

    Raises:
      ValueError: names the metric and the option.
    """
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(
            f"{metric_name} needs num_classes, an int of at least 2, and got {num_classes!r}. "
            f"Write {metric_name}(num_classes=10)."
        )
    if average not in _AVERAGES:
        raise ValueError(
            f"{metric_name} cannot average over classes by {average!r}: "
            f"average is 'macro', 'micro', or None for one number per class."
        )


def one_hot_pair(metric: Metric, items: Classified, num_classes: int) -> tuple[jax.Array, jax.Array]:
    """The predicted and the actual class of each item, one-hot.

    Args:
      metric: the metric that counts, for the error.
      items: what was classified.
      num_classes: how many classes there are.

    Returns:
      bool arrays `(predicted, actual)`, of shape (..., num_classes).

    Raises:
      ValueError: the logits are not those of `num_classes` classes.
    """
    if items.num_classes != num_classes:
        raise ValueError(
            f"{metric!r} cannot read logits of shape {items.logits.shape} for labels of shape "
            f"{items.labels.shape}: they are of {items.num_classes} classes. "
            f"Write {type(metric).__name__}(num_classes={items.num_classes})."
        )
    classes = jnp.arange(num_classes, dtype=jnp.int32)
    actual = items.labels[..., None] == classes
    return items.predictions[..., None] == classes, actual


def class_counts(metric: Metric, items: Classified, num_classes: int) -> jax.Array:
    """Weight of the items that are of a class and predicted so, predicted so, and of it.

    Args:
      metric: the metric that counts, for the error.
      items: what was classified.
      num_classes: how many classes there are.

    Returns:
      float32 array of shape (3, num_classes): true positives, predicted, actual.
    """
    predicted, actual = one_hot_pair(metric, items, num_classes)
    weight = items.weight[..., None]
    axes = tuple(range(items.labels.ndim))
    kinds = (predicted & actual, predicted, actual)
    return jnp.stack([jnp.sum(jnp.where(kind, weight, 0), axis=axes) for kind in kinds])


def averaged_ratio(numerator: jax.Array, denominator: jax.Array, average: Average) -> jax.Array:
    """The ratio by class, or its average; 0 where the denominator is 0.

    Args:
      numerator: float32 array (num_classes,).
      denominator: float32 array (num_classes,).
      average: "macro" for the mean of the classes' ratios, "micro" for the ratio of the sums,
        None for the ratios.

    Returns:
      float32 scalar, or array (num_classes,) for None.

    >>> counts = jnp.array([1.0, 0.0]), jnp.array([2.0, 0.0])
    >>> [averaged_ratio(*counts, average).tolist() for average in ("macro", "micro", None)]
    [0.25, 0.5, [0.5, 0.0]]
    """
    if average == "micro":
        numerator, denominator = jnp.sum(numerator), jnp.sum(denominator)
    some = denominator != 0
    ratio = jnp.where(some, numerator / jnp.where(some, denominator, 1), 0)
    return jnp.mean(ratio) if average == "macro" else ratio
