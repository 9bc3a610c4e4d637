"""Counts by class, and what precision, recall and F-scores share: a ratio of them, averaged over classes."""

import abc
from dataclasses import dataclass, field
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.class_average import Absent, Average, averaged, check_average
from fourbeat.metrics.classified import Classified, check_threshold, read_classified
from fourbeat.metrics.metric import Metric
from fourbeat.metrics.summed import Summed
from fourbeat.types import Object


@dataclass(frozen=True, eq=False, repr=False)
class ClassRatio(Summed):
    """A metric that is a ratio of counts by class, or its average over classes."""

    num_classes: int = field(kw_only=True, metadata={"static": True})
    average: Average = field(default="macro", kw_only=True, metadata={"static": True})
    absent: Absent = field(default="zero", kw_only=True, metadata={"static": True})
    threshold: float | None = field(default=None, kw_only=True, metadata={"static": True})
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
        name = type(self).__name__
        check_num_classes(name, self.num_classes)
        check_average(name, self.average, self.absent)
        check_threshold(name, self.threshold)
        return 3, self.num_classes

    def update(self, /, *, weight: ArrayLike | None = None, **values: Any) -> Self:
        seen = read_classified(
            self, values, weight, logits=self.logits, labels=self.labels, threshold=self.threshold
        )
        check_seen_classes(self, seen, self.num_classes)
        predicted = seen.predictions
        # The classes of the three rows of sums, true, predicted and actual, and what each counts.
        places = jnp.stack([seen.labels, predicted + self.num_classes, seen.labels + 2 * self.num_classes])
        true = jnp.where(predicted == seen.labels, seen.weight, 0)
        return self.add_at(places, jnp.stack([true, seen.weight, seen.weight]))

    def compute(self) -> jax.Array:
        true, predicted, actual = self.total
        occurs = (predicted != 0) | (actual != 0)
        numerator, denominator = self.ratio(true, predicted, actual)
        if self.average == "micro":  # of one class, that of all
            numerator, denominator = jnp.sum(numerator)[None], jnp.sum(denominator)[None]
            occurs = jnp.any(occurs)[None]
        some = denominator != 0
        by_class = jnp.where(some, numerator / jnp.where(some, denominator, 1), 0)
        average = "macro" if self.average == "micro" else self.average
        return averaged(by_class, actual, occurs, average=average, absent=self.absent)


def check_num_classes(metric_name: str, num_classes: Object) -> None:
    """Raise unless it is a number of classes that a metric can have.

    Raises:
      ValueError: names the metric.
    """
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(
            f"{metric_name} needs num_classes, an int of at least 2, and got {num_classes!r}. "
            f"Write {metric_name}(num_classes=10)."
        )


def check_seen_classes(metric: Metric, seen: Classified, num_classes: int) -> None:
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
