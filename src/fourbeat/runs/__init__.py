"""Runs: their directory, history and plots, and what they show."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fourbeat.runs import figures
    from fourbeat.runs.errors import Diverged, Interrupted
    from fourbeat.runs.flags import above, at_least, check_flags
    from fourbeat.runs.printing import in_words, say, say_scores, show_by_class, show_model
    from fourbeat.runs.progress_iterator import Progress, progress
    from fourbeat.runs.run_directory import RunDirectory

# Each name is loaded when it is first used: a list of runs needs no JAX.
_NAMES = {
    "flags": ("above", "at_least", "check_flags"),
    "errors": ("Diverged", "Interrupted"),
    "run_directory": ("RunDirectory",),
    "printing": ("in_words", "say", "say_scores", "show_by_class", "show_model"),
    "progress_iterator": ("Progress", "progress"),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = [
    "Diverged",
    "Interrupted",
    "Progress",
    "RunDirectory",
    "above",
    "at_least",
    "check_flags",
    "figures",
    "in_words",
    "progress",
    "say",
    "say_scores",
    "show_by_class",
    "show_model",
]


def __getattr__(name: str) -> Any:
    if name == "figures":
        return importlib.import_module("fourbeat.runs.figures")
    if name not in _HOMES:
        raise AttributeError(f"module 'fourbeat.runs' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fourbeat.runs.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
