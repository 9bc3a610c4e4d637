"""The command line: `fourbeat train <recipe>`."""

from fourbeat.cli.main import main

__all__ = ["main"]
