"""Loggers by the names that a user gives on the command line."""

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fourbeat.loggers import Logger, Several, TensorBoard

_KNOWN: dict[str, Callable[[Path], Logger]] = {"tensorboard": lambda run: TensorBoard(run / "tensorboard")}


def make_loggers(names: Sequence[str], run: Path) -> Several:
    """The loggers of these names, as one.

    Args:
      names: each is "tensorboard", or `module:name` of a callable that takes the run's directory and gives
        a logger. The module is looked for in the working directory too.
      run: the run's directory.

    Raises:
      ValueError: there is no such logger.
    """
    return Several(*(_factory(name)(run) for name in names))


def _factory(name: str) -> Callable[[Path], Logger]:
    module, colon, attribute = name.partition(":")
    if name in _KNOWN:
        return _KNOWN[name]
    if not colon:
        raise ValueError(
            f"--loggers {name}: there is no such logger. Name tensorboard, or a callable of your own as "
            "module:name."
        )
    if "" not in sys.path:
        sys.path.append("")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--loggers {name}: {error}.") from error
