"""Counts by class, and what precision, recall and F1 share: a ratio of them, averaged over classes."""

import abc
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.classified import Classified, read_classified
from fourbeat.metrics.metric import Metric
from fourbeat.metrics.summed import Summed
from fourbeat.types import Object

Average = Literal["macro", "micro"] | None

_AVERAGES: Final = ("macro", "micro", None)


@dataclass(frozen=True, eq=False, repr=False)
class ClassRatio(Summed):
    """A metric that is a ratio of counts by class, or its average over classes; 0 where nothing was seen."""

    num_classes: int = field(kw_only=True, metadata={"static": True})
    average: Average = field(default="macro", kw_only=True, metadata={"static": True})
    logits: str = field(default="logits", kw_only=True, metadata={"static": True})
    labels: str = field(default="labels", kw_only=True, metadata={"static": True})

    @abc.abstractmethod
    def ratio(self, true: jax.Array, predicted: jax.Array, actual: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Numerator and denominator.

        Args:
          true: float32 (num_classes,), weight of the examples of each class that were predicted to be of it.
          predicted: float32 (num_classes,), weight of the examples predicted to be of each class.
          actual: float32 (num_classes,), weight of the examples of each class.
        """

    def sums_shape(self) -> tuple[int, ...]:
        check_class_options(type(self).__name__, self.num_classes, self.average)
        return 3, self.num_classes

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        seen = read_classified(self, values, weight, logits=self.logits, labels=self.labels)
        check_num_classes(self, seen, self.num_classes)
        predicted = seen.predictions
        # The classes of the three rows of sums, true, predicted and actual, and what each counts.
        places = jnp.stack([seen.labels, predicted + self.num_classes, seen.labels + 2 * self.num_classes])
        true = jnp.where(predicted == seen.labels, seen.weight, 0)
        return self.add_at(places, jnp.stack([true, seen.weight, seen.weight]))

    def compute(self) -> jax.Array:
        return averaged_ratio(*self.ratio(*self.total), self.average)


def check_class_options(metric_name: str, num_classes: Object, average: Object = None) -> None:
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


def check_num_classes(metric: Metric, seen: Classified, num_classes: int) -> None:
    """Raise unless the logits are those of `num_classes` classes.

    Raises:
      ValueError: names the metric, the shapes and the number that fits.
    """
    if seen.num_classes != num_classes:
        raise ValueError(
            f"{metric!r} cannot read logits of shape {seen.logits.shape} for labels of shape "
            f"{seen.labels.shape}: they are of {seen.num_classes} classes. "
            f"Write {type(metric).__name__}(num_classes={seen.num_classes})."
        )


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
