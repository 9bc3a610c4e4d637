"""What a metric of regression reads: predictions, targets, and the weight of each of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fourbeat.metrics.inputs import named_value, spread_weight
from fourbeat.metrics.metric import Metric


class Compared(NamedTuple):
    """Predictions beside targets.

    Attributes:
      predictions: float32 array (...).
      targets: float32 array of the same shape.
      weight: float32 array of the same shape.
    """

    predictions: jax.Array
    targets: jax.Array
    weight: jax.Array


def read_compared(
    metric: Metric,
    values: Mapping[str, Any],
    weight: ArrayLike | None,
    *,
    predictions: str,
    targets: str,
) -> Compared:
    """The numbers of one update.

    Args:
      metric: the metric that reads them, for the errors.
      values: what the update was given.
      weight: None for ones, or of the targets' shape or its leading axes.
      predictions: name of the predictions.
      targets: name of the targets.

    Raises:
      ValueError: a value is missing, or shapes do not fit.
    """
    rename = type(metric).__name__ + '({}="...")'
    given = named_value(metric, values, predictions, rename=rename.format("predictions"))
    wanted = named_value(metric, values, targets, rename=rename.format("targets"))
    if given.shape != wanted.shape:
        raise ValueError(
            f"{metric!r} cannot compare {predictions!r} of shape {given.shape} with "
            f"{targets!r} of shape {wanted.shape}: the shapes must be equal, because "
            f"broadcasting them would compare every example with every other. "
            f"Reshape one, such as {predictions}.reshape({targets}.shape)."
        )
    spread = spread_weight(metric, wanted.shape, weight, of=repr(targets))
    return Compared(given.astype(jnp.float32), wanted.astype(jnp.float32), spread)
