"""What jit would lose: a check of any function, and a `jax.jit` that checks what it traces."""

from fourbeat.purity.captures import StaleReadError
from fourbeat.purity.checking import check
from fourbeat.purity.findings import Finding, Kind, Level
from fourbeat.purity.jitting import jit
from fourbeat.purity.report import ImpureError, Report

__all__ = ["Finding", "ImpureError", "Kind", "Level", "Report", "StaleReadError", "check", "jit"]
