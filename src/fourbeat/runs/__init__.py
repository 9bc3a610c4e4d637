"""Runs: their directory, history and plots, and what they show."""

from typing import TYPE_CHECKING

from fourbeat._lazy_names import lazy_names

if TYPE_CHECKING:
    from fourbeat.runs import figures
    from fourbeat.runs.all_devices import training_mesh
    from fourbeat.runs.ending import show_end
    from fourbeat.runs.errors import Diverged, Interrupted, StoreError
    from fourbeat.runs.flags import above, argument, at_least, check_flags, flag_name, repeated
    from fourbeat.runs.members import best_member, spread
    from fourbeat.runs.printing import in_words, say, say_scores, show_by_class, show_model
    from fourbeat.runs.progress_iterator import Progress, progress
    from fourbeat.runs.run_directory import RunDirectory
    from fourbeat.runs.run_on_disk import Run

# A list of runs needs no JAX: what is not used is not loaded.
_NAMES = {
    "flags": ("above", "argument", "at_least", "check_flags", "flag_name", "repeated"),
    "ending": ("show_end",),
    "errors": ("Diverged", "Interrupted", "StoreError"),
    "run_directory": ("RunDirectory",),
    "run_on_disk": ("Run",),
    "members": ("best_member", "spread"),
    "printing": ("in_words", "say", "say_scores", "show_by_class", "show_model"),
    "progress_iterator": ("Progress", "progress"),
    "all_devices": ("training_mesh",),
}

__all__ = [
    "Diverged",
    "Interrupted",
    "Progress",
    "Run",
    "RunDirectory",
    "StoreError",
    "above",
    "argument",
    "at_least",
    "best_member",
    "check_flags",
    "figures",
    "flag_name",
    "in_words",
    "progress",
    "repeated",
    "say",
    "say_scores",
    "show_by_class",
    "show_end",
    "show_model",
    "spread",
    "training_mesh",
]

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
