"""Sanity: what makes training useless without an error, looked for before it starts."""

from fourbeat.sanity.checking import check
from fourbeat.sanity.report import Finding, Report, SanityError

__all__ = ["Finding", "Report", "SanityError", "check"]
