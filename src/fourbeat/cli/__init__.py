"""The command line: `fourbeat train <recipe>`, and the commands for what came of it."""

from fourbeat.cli.main import main, run_file

__all__ = ["main", "run_file"]
