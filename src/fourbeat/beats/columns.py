"""A batch as the columns that a loss function reads."""

from typing import Any

from fourbeat.data.batch import Batch


def columns_of(batch: Any) -> Any:
    """The columns of a `fourbeat.data.Batch`, gathered and mapped; any other batch as it is."""
    return batch.materialize() if isinstance(batch, Batch) else batch
