"""Several loggers as one."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from fourbeat.distributed import speaks
from fourbeat.loggers.failures import LoggerWarning, warn
from fourbeat.loggers.protocol import Cutting, Logger
from fourbeat.types import Figure


class Several:
    """Every logger of several gets everything. One that fails warns once, and the others go on.

    Of several processes, process 0 alone gives its loggers anything: yours too.

    Args:
      loggers: of ours or of yours.

    >>> Several()
    Several()
    """

    def __init__(self, *loggers: Logger):
        self._loggers = loggers if speaks() else ()
        self._failed: set[int] = set()

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Gives the values of a step to each."""
        self._each(lambda logger: logger.log(step, values))

    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Gives a figure to each."""
        self._each(lambda logger: logger.figure(step, name, figure))

    def close(self) -> None:
        """Closes each."""
        self._each(lambda logger: logger.close())

    def cut_after(self, step: int) -> None:
        """Each takes back what it was given of later steps. Warns of those that cannot."""
        if unable := [repr(logger) for logger in self._loggers if not isinstance(logger, Cutting)]:
            warnings.warn(
                f"{', '.join(unable)} has no cut_after: it keeps what it was given of steps after "
                f"{int(step)}, which come again.",
                LoggerWarning,
                stacklevel=2,
            )
        self._each(lambda logger: logger.cut_after(step) if isinstance(logger, Cutting) else None)

    def __repr__(self) -> str:
        return f"Several({', '.join(map(repr, self._loggers))})"

    def _each(self, give: Callable[[Logger], None]) -> None:
        for place, logger in enumerate(self._loggers):
            try:
                give(logger)
            except Exception as error:  # a logger of the user's may raise anything
                if place not in self._failed:
                    self._failed.add(place)
                    warn(logger, error, stacklevel=4)
