"""Names of a package that are loaded when they are first used, so that importing it costs next to nothing."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, names: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose names come from its modules.

    A module of the package is loaded on use as well, whether it has such names or not.

    Args:
      package: its `__name__`.
      names: those that each of its modules gives, by the module's name within the package.

    >>> load, _ = lazy_names("fourbeat.control", {"stopping": ("EarlyStopping",)})
    >>> load("EarlyStopping").__module__
    'fourbeat.control.stopping'
    """
    homes = {name: home for home, each in names.items() for name in each}
    held = vars(sys.modules[package])

    def load(name: str) -> Any:
        if name in homes:
            held[name] = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
            return held[name]
        if not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}") is not None:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, lambda: sorted({*held, *homes, *held["__all__"]})
