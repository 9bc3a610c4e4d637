"""The numbers of what is logged, by one name each: what a curve can show."""

from collections.abc import Iterator, Mapping
from typing import Any


def scalars(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, float]]:
    """Each number with its name: a vector's are `recall/0`, `recall/1`, ..., a dict's `eval/loss`.

    Arrays of more dimensions, and what is no number, are left out.

    >>> dict(scalars({"eval": {"loss": 0.5}, "recall": [1.0, 0.25], "text": "a", "classes": ["3", "cat"]}))
    {'eval/loss': 0.5, 'recall/0': 1.0, 'recall/1': 0.25}
    """
    import numpy as np

    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{within}{name}/")
        elif isinstance(value, str | bytes):
            continue
        elif np.ndim(value) == 1:
            entries = np.asarray(value)
            if entries.dtype.kind not in "SUO":  # names, such as those of classes, are no numbers
                yield from ((f"{within}{name}/{place}", float(entry)) for place, entry in enumerate(entries))
        elif np.ndim(value) == 0:
            yield f"{within}{name}", float(value)
