"""What a logger is: an object with three methods."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from fourbeat.types import Figure


class Logger(Protocol):
    """What a logger does. Any object with these three methods is one; it need not know of fourbeat.

    One that can take back what it wrote has `cut_after(step)` too, as `JsonLines` and `TensorBoard` do: a
    loop that goes on from an older checkpoint calls it first, or the steps in between are there twice.

    >>> from fourbeat.loggers import Several
    >>> class Printing:
    ...     def log(self, step, values):
    ...         print(step, values)
    ...     def figure(self, step, name, figure):
    ...         print(step, name)
    ...     def close(self):
    ...         print("closed")
    >>> logger = Several(Printing())
    >>> logger.log(10, {"loss": 0.5})
    10 {'loss': 0.5}
    """

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Takes values of a step: scalars, arrays, or dicts of them, by name."""

    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Takes a matplotlib figure of a step."""

    def close(self) -> None:
        """Writes what is not written yet, and lets go."""


@runtime_checkable
class Cutting(Protocol):
    """A logger that can take back what it was given of later steps."""

    def cut_after(self, step: int) -> None:
        """Takes back what was given of steps after `step`."""
