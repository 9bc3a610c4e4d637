"""Loggers by the names that a user gives on the command line."""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fourbeat.loggers import Logger, LoggerWarning, Several, TensorBoard, trackers

_Make = Callable[[Path, Mapping[str, Any]], Logger]


class _Known(NamedTuple):
    """How a logger of ours is made, the package that it needs, and the extra that brings that package."""

    make: _Make
    package: str
    extra: str


_KNOWN = {
    "tensorboard": _Known(lambda run, flags: TensorBoard(run / "tensorboard"), "tensorboardX", "tensorboard"),
    "wandb": _Known(trackers.wandb, "wandb", "trackers"),
    "mlflow": _Known(trackers.mlflow, "mlflow", "trackers"),
    "trackio": _Known(trackers.trackio, "trackio", "trackers"),
}


class NamedLoggers:
    """What the flag `log` names: found at once, made when the run's directory is there.

    Args:
      names: each is "tensorboard", "wandb", "mlflow", "trackio", or `module:name` of a callable that takes
        the run's directory and gives a logger. The module is looked for in the working directory too.

    Raises:
      ValueError: there is no such logger.
      ImportError: the package of one is not installed.
    """

    def __init__(self, names: Sequence[str]):
        self._makes = {name: _found(name) for name in names}

    def make(self, run: Path, flags: Mapping[str, Any]) -> Several:
        """The loggers as one. A logger that cannot begin, as without a network, is left out with a warning.

        Args:
          run: the run's directory.
          flags: what a tracker shows of the run.
        """
        loggers = []
        for name, make in self._makes.items():
            try:
                loggers.append(make(run, flags))
            except Exception as error:  # a tracker may raise anything
                why = f"{type(error).__name__}: {error}"
                told = f"--log {name} cannot begin: {why}. Training goes on without it."
                warnings.warn(told, LoggerWarning, stacklevel=3)
        return Several(*loggers)


def _found(name: str) -> _Make:
    if name in _KNOWN:
        known = _KNOWN[name]
        if known.package not in sys.modules and importlib.util.find_spec(known.package) is None:
            raise ImportError(
                f"--log {name} needs {known.package}: pip install 'fourbeat[{known.extra}]'",
                name=known.package,
            )
        return known.make
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(
            f"--log {name}: there is no such logger. Name {', '.join(_KNOWN)}, or a callable of your own as "
            "module:name."
        )
    if "" not in sys.path:
        sys.path.append("")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--log {name}: {error}.") from error
    return lambda run, flags: factory(run)
