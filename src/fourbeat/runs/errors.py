"""How a run ends that does not finish."""

from fourbeat.stores.store import StoreError

__all__ = ["Diverged", "Interrupted", "StoreError"]


class Interrupted(Exception):
    """A run that a signal stopped, or a reader of its output that went away.

    Attributes:
      signal: its number, or None where the stop was asked for in the program.
    """

    def __init__(self, signal: int | None, message: str):
        super().__init__(message)
        self.signal = signal


class Diverged(ArithmeticError):
    """A run whose result is not finite: it is no finished run."""
