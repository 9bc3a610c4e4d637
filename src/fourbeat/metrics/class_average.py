"""One number of many classes: how a score by class is averaged, and which classes take part."""

from typing import Final, Literal

import jax
import jax.numpy as jnp

from fourbeat.types import Object

Average = Literal["macro", "micro", "weighted"] | None
Absent = Literal["zero", "skip"]

_AVERAGES: Final = ("macro", "micro", "weighted", None)
_ABSENT: Final = ("zero", "skip")


def check_average(metric_name: str, average: Object, absent: Object, *, averages: tuple = _AVERAGES) -> None:
    """Raise unless the options are ones that a metric by class can have.

    Raises:
      ValueError: names the metric and the option.
    """
    if average not in averages:
        named = ", ".join(repr(each) for each in averages if each is not None)
        raise ValueError(
            f"{metric_name} cannot average over classes by {average!r}: "
            f"average is {named}, or None for one number per class."
        )
    if absent not in _ABSENT:
        raise ValueError(
            f"{metric_name} cannot count absent classes as {absent!r}: absent is 'zero' for a score of 0, or "
            "'skip' to leave them out of the average."
        )


def averaged(
    by_class: jax.Array, support: jax.Array, occurs: jax.Array, *, average: Average, absent: Absent
) -> jax.Array:
    """The scores by class, or their average.

    Args:
      by_class: float32 (num_classes,).
      support: float32 (num_classes,), weight of the examples of each class.
      occurs: bool (num_classes,), whether a class has a score at all.
      average: "macro" for the mean, "weighted" for the mean weighted by `support`, None for all of them.
      absent: what a class without a score counts: "zero"; or "skip", which gives NaN where all are absent,
        and for such a class where the average is None.

    Returns:
      float32 scalar, or array (num_classes,) for None.

    >>> by_class = jnp.array([1.0, 0.5, 0.0]), jnp.array([1, 3, 0]), jnp.array([True, True, False])
    >>> [averaged(*by_class, average="macro", absent=absent).item() for absent in ("zero", "skip")]
    [0.5, 0.75]
    >>> averaged(*by_class, average="weighted", absent="zero").item()
    0.625
    """
    if average is None:
        return jnp.where(occurs, by_class, 0 if absent == "zero" else jnp.nan)
    weight = support if average == "weighted" else jnp.ones_like(by_class)
    if absent == "skip":
        weight = jnp.where(occurs, weight, 0)
    total = jnp.sum(weight)
    mean = jnp.sum(jnp.where(occurs, by_class * weight, 0)) / jnp.where(total == 0, 1, total)
    return jnp.where(total == 0, 0 if absent == "zero" else jnp.nan, mean)
