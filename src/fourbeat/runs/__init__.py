"""Runs: their directory, history and plots, and what they show."""

from fourbeat.runs import figures
from fourbeat.runs.progress import progress
from fourbeat.runs.run_directory import RunDirectory
from fourbeat.runs.screen import Interrupted, in_words, show_by_class, show_model

__all__ = [
    "Interrupted",
    "RunDirectory",
    "figures",
    "in_words",
    "progress",
    "show_by_class",
    "show_model",
]
