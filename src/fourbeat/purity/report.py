"""What a check found, in order of weight."""

import dataclasses

from fourbeat.purity.findings import Finding, Level

_ORDER = (Level.ERROR, Level.WARNING, Level.INFORMATION)


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
    def is_pure(self) -> bool:
        """Whether nothing was found that `jax.jit` would lose."""
        return not self.errors

    def raise_if_impure(self) -> None:
        """Raises for errors; warnings and information pass.

        Raises:
          ImpureError: there are errors.

        >>> Report("f", ()).raise_if_impure()
        """
        if self.errors:
            raise ImpureError(self)

    def __str__(self) -> str:
        if not self.findings:
            return f"{self.name} is pure."
        verdict = "is pure" if self.is_pure else "is impure"
        lines = [f"{finding.level} {finding.kind}: {finding.text}" for finding in self.findings]
        return "\n".join([f"{self.name} {verdict}.", *lines])
