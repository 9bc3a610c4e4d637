"""What a classification metric reads: logits, labels, and the weight of each example.

An example here is what has a label of its own: in a text that may be a token.
"""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.inputs import named_value, spread_weight
from fourbeat.metrics.metric import Metric
from fourbeat.types import Object


class Classified(NamedTuple):
    """Examples that a model has classified.

    Attributes:
      logits: real array (..., C); of the labels' shape where there are two classes.
      labels: int32 array (...), each one of the classes.
      weight: float32 array (...); 0 where the label was none of the classes, so that the example is left out.
      threshold: above which one logit an example means class 1.
    """

    logits: jax.Array
    labels: jax.Array
    weight: jax.Array
    threshold: float = 0.0

    @property
    def num_classes(self) -> int:
        return 2 if self.is_binary else self.logits.shape[-1]

    @property
    def is_binary(self) -> bool:
        """Whether an example has one logit, that of class 1 against class 0."""
        return self.logits.shape == self.labels.shape

    @property
    def predictions(self) -> jax.Array:
        """int32 array (...): the class of the highest logit, the first of equals; 1 above the threshold."""
        if self.is_binary:
            return (self.logits.astype(jnp.float32) > self.threshold).astype(jnp.int32)
        return first_highest(self.logits)


def read_classified(
    metric: Metric,
    values: Mapping[str, Any],
    weight: ArrayLike | None,
    *,
    logits: str,
    labels: str,
    threshold: float | None = None,
) -> Classified:
    """The examples of one update.

    Args:
      metric: the metric that reads them, for the errors.
      values: what the update was given.
      weight: None for ones, or of the labels' shape or its leading axes.
      logits: name of the logits.
      labels: name of the labels.
      threshold: above which one number an example means class 1; None for 0, that of logits.

    Raises:
      ValueError: a value is missing, shapes do not fit, or a threshold meets a class axis.
      TypeError: the labels are not integers.
    """
    rename = type(metric).__name__ + '({}="...")'
    scores = named_value(metric, values, logits, rename=rename.format("logits"))
    classes = named_value(metric, values, labels, rename=rename.format("labels"))
    if not (jnp.issubdtype(classes.dtype, jnp.integer) or classes.dtype == jnp.bool_):
        raise TypeError(
            f"{metric!r} cannot read {labels!r} of dtype {classes.dtype}: labels are the integers "
            f"0 to C - 1. Cast them, such as {labels}.astype(jnp.int32); "
            f"one-hot labels become {labels}.argmax(-1)."
        )
    if classes.shape not in (scores.shape, scores.shape[:-1]):
        column = logits if scores.shape[-1:] == (1,) != classes.shape[-1:] else labels
        raise ValueError(
            f"{metric!r} cannot compare {logits!r} of shape {scores.shape} with {labels!r} of "
            f"shape {classes.shape}: for logits (..., C) labels are (...), here "
            f"{scores.shape[:-1]}; with one logit an example, for two classes, both are (...). "
            f"Reshape one, such as {column}.squeeze(-1)."
        )
    if classes.shape != scores.shape and scores.shape[-1] == 1:
        raise ValueError(
            f"{metric!r} cannot read {logits!r} of shape {scores.shape} for {labels!r} of shape "
            f"{classes.shape}: with one class there is nothing to choose. For two classes with one "
            f"logit an example, give both the same shape: {logits}.squeeze(-1)."
        )
    if threshold is not None and classes.shape != scores.shape:
        raise ValueError(
            f"{metric!r} cannot apply its threshold to {logits!r} of shape {scores.shape} for {labels!r} of "
            f"shape {classes.shape}: of several classes the highest is predicted. Leave threshold out; or, "
            f"for two classes, give the probability of class 1 alone, {logits}[..., 1]."
        )
    spread = spread_weight(metric, classes.shape, weight, of=repr(labels))
    seen = Classified(scores, classes.astype(jnp.int32), spread, threshold or 0.0)
    is_class = (classes >= 0) & (classes < seen.num_classes)
    return seen._replace(labels=jnp.where(is_class, seen.labels, 0), weight=jnp.where(is_class, spread, 0))


def check_threshold(metric_name: str, threshold: Object) -> None:
    """Raise unless it is a threshold that a metric can have, or None.

    Raises:
      ValueError: names the metric.
    """
    is_number = isinstance(threshold, Real) and not isinstance(threshold, bool) and math.isfinite(threshold)
    if threshold is not None and not is_number:
        raise ValueError(
            f"{metric_name} takes threshold, a finite number, and got {threshold!r}. For probabilities write "
            "threshold=0.5; for logits leave it out."
        )


def first_highest(values: jax.Array) -> jax.Array:
    """What `argmax` over the last axis gives, in a fifth of its time: XLA on CPU makes no vectors of that.

    Args:
      values: real array (..., C).

    Returns:
      int32 array (...): where the highest value is, the first of equals; the first NaN where there is one.
    """
    highest = jnp.max(values, axis=-1, keepdims=True)
    is_highest = (values == highest) | (values != values)
    count = values.shape[-1]
    return jnp.min(jnp.where(is_highest, jnp.arange(count, dtype=jnp.int32), count), axis=-1)
