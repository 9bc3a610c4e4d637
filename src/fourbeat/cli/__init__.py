"""The command line: `fourbeat train <recipe>`, and the commands for what came of it."""

from fourbeat.cli.command_line import main, run_file

__all__ = ["main", "run_file"]
