"""Runs: their directory, history and plots, and what they show."""

from fourbeat.runs import figures
from fourbeat.runs.listing import show_runs
from fourbeat.runs.progress import Progress, progress
from fourbeat.runs.run_directory import RunDirectory, find, read_json
from fourbeat.runs.screen import Interrupted, in_words, say, show_by_class, show_model, show_stopped

__all__ = [
    "Interrupted",
    "Progress",
    "RunDirectory",
    "figures",
    "find",
    "in_words",
    "progress",
    "read_json",
    "say",
    "show_by_class",
    "show_model",
    "show_runs",
    "show_stopped",
]
