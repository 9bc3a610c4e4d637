"""One thing that `jax.jit` would lose or freeze, and how a person reads it."""

import dataclasses
import enum
from typing import Any

from fourbeat.objects.comparing import show


class Kind(enum.StrEnum):
    """What was found. The first five are errors where the slot is the function's own."""

    WRITE = "WRITE"
    LEAK = "LEAK"
    LOST_WRITE = "LOST WRITE"
    RNG = "RNG"
    CLOCK = "CLOCK"
    NONDETERMINISTIC = "NONDETERMINISTIC"
    BAKED = "BAKED"
    PRINT = "PRINT"
    CACHE = "CACHE"


class Level(enum.StrEnum):
    """How much it matters. Only errors make a function impure."""

    ERROR = "error"
    WARNING = "warning"
    INFORMATION = "information"


ERRORS = (Kind.WRITE, Kind.LEAK, Kind.LOST_WRITE, Kind.RNG, Kind.CLOCK)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One finding of `fourbeat.purity.check`.

    Attributes:
      kind: see `Kind`; compares equal to its text.
      path: the slot or the call: `self.n`, `COUNT`, `time.time`.
      before: the value before tracing, where it is a plain one, else how it is shown.
      after: the value that tracing left, likewise.
      file: of the line that did it; None where no line was seen.
      line: its number, from 1; None where no line was seen.
      level: "error", "warning" or "information".
      text: the whole message.
      repair: what to write instead.
    """

    kind: Kind
    path: str
    before: Any
    after: Any
    file: str | None
    line: int | None
    level: Level
    text: str
    repair: str

    @property
    def is_error(self) -> bool:
        """Whether it makes the function impure."""
        return self.level is Level.ERROR

    @property
    def where(self) -> str:
        """`app.py:6`, or that no line was seen."""
        if self.file is None:
            return "a line that was not seen"
        return f"{self.file.replace(chr(92), '/').rpartition('/')[2]}:{self.line}"

    @property
    def values(self) -> str:
        """`0 -> 1`."""
        before, after = (each if isinstance(each, str) else repr(each) for each in (self.before, self.after))
        return f"{before} -> {after}"

    def __str__(self) -> str:
        return self.text


def shown_change(before: Any, after: Any) -> str:
    """`(0 -> 1)`.

    >>> shown_change(0, [1])
    '(0 -> [1])'
    """
    return f"({show(before)} -> {show(after)})"
