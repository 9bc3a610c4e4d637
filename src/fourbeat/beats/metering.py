"""What a step tells its metrics: the loss, everything in aux, the batch's columns, the weight."""

from collections.abc import Mapping
from typing import Any

from fourbeat.beats.loss import Forward


def measured(metrics: Any, batch: Any, seen: Forward) -> Any:
    """The metrics after one batch; None stays None.

    A name in aux goes before a batch column of the same name.
    """
    if metrics is None:
        return None
    columns = {k: v for k, v in batch.items() if k != "weight"} if isinstance(batch, Mapping) else {}
    aux = seen.aux if isinstance(seen.aux, Mapping) else {}
    return metrics.update(weight=seen.item_weight, **{**columns, **aux, "loss": seen.items})
