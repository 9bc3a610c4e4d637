"""What the checks saw, in words."""

import dataclasses
from typing import Literal


class SanityError(ValueError):
    """A check of `fourbeat.sanity.check` warns or gives an error.

    Attributes:
      report: the whole report.
    """

    def __init__(self, report: "Report"):
        super().__init__("\n".join(f"{each.check}: {each.seen}" for each in report.bad))
        self.report = report


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
      check: its name.
      status: "ok", "warn", "error" for what is always wrong, or "skip" where there is nothing to check.
      seen: what was seen, in words.
    """

    check: str
    status: Literal["ok", "warn", "error", "skip"]
    seen: str


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """The findings of all checks. Printed, it is a table.

    Attributes:
      findings: one for each check, in order.

    >>> print(Report((Finding("labels in range", "ok", "0..9 of 10 classes"),)))
    labels in range  ok  0..9 of 10 classes
    """

    findings: tuple[Finding, ...]

    @property
    def bad(self) -> tuple[Finding, ...]:
        """The findings that warn or give an error."""
        return tuple(finding for finding in self.findings if finding.status in ("warn", "error"))

    @property
    def ok(self) -> bool:
        """Whether no check warns or gives an error."""
        return not self.bad

    def raise_if_bad(self) -> None:
        """Raises where a check warns or gives an error.

        Raises:
          SanityError: names each such check with what it saw.
        """
        if not self.ok:
            raise SanityError(self)

    def __getitem__(self, check: str) -> Finding:
        return {finding.check: finding for finding in self.findings}[check]

    def __repr__(self) -> str:
        width = max(len(finding.check) for finding in self.findings)
        status = max(len(finding.status) for finding in self.findings)
        return "\n".join(
            f"{each.check:{width}}  {each.status:{status}}  {each.seen}" for each in self.findings
        )
