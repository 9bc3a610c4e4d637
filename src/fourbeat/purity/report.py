"""What a check found: each thing that `jax.jit` would lose or freeze, and the report of all of them."""

import dataclasses
import enum

from fourbeat.objects.comparing import show
from fourbeat.objects.lines import Line
from fourbeat.types import Object


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


_ORDER = (Level.ERROR, Level.WARNING, Level.INFORMATION)


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
    before: Object
    after: Object
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
        return str(Line(self.file, self.line or 0))

    @property
    def values(self) -> str:
        """`0 -> 1`."""
        before, after = (each if isinstance(each, str) else repr(each) for each in (self.before, self.after))
        return f"{before} -> {after}"

    def __str__(self) -> str:
        return self.text


class ImpureError(ValueError):
    """A function would not mean the same under `jax.jit`; the text names slot, line and repair.

    Attributes:
      report: the whole report.
    """

    def __init__(self, report: "Report"):
        super().__init__("\n".join(finding.text for finding in report.errors))
        self.report = report


@dataclasses.dataclass(frozen=True)
class Report:
    """The findings about one function.

    Attributes:
      name: of the function.
      findings: errors first, then warnings, then information.
    """

    name: str
    findings: tuple[Finding, ...]

    def __post_init__(self):
        ordered = sorted(self.findings, key=lambda finding: _ORDER.index(finding.level))
        object.__setattr__(self, "findings", tuple(ordered))

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make the function impure."""
        return tuple(finding for finding in self.findings if finding.is_error)

    @property
    def ok(self) -> bool:
        """Whether nothing was found that `jax.jit` would lose."""
        return not self.errors

    def raise_if_bad(self) -> None:
        """Raises for errors; warnings and information pass.

        Raises:
          ImpureError: there are errors.

        >>> Report("f", ()).raise_if_bad()
        """
        if self.errors:
            raise ImpureError(self)

    @property
    def is_pure(self) -> bool:
        """`ok`, by its name for functions."""
        return self.ok

    def raise_if_impure(self) -> None:
        """`raise_if_bad`, by its name for functions."""
        self.raise_if_bad()

    def __str__(self) -> str:
        if not self.findings:
            return f"{self.name} is pure."
        verdict = "is pure" if self.ok else "is impure"
        lines = [f"{finding.level} {finding.kind}: {finding.text}" for finding in self.findings]
        return "\n".join([f"{self.name} {verdict}.", *lines])


def shown_change(before: Object, after: Object) -> str:
    """`(0 -> 1)`.

    >>> shown_change(0, [1])
    '(0 -> [1])'
    """
    return f"({show(before)} -> {show(after)})"
