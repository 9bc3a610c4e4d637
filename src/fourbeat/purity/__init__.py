"""What jit would lose: a check of any function, and a `jax.jit` that checks what it traces."""

from fourbeat.purity.captures import StaleReadError
from fourbeat.purity.examining import check
from fourbeat.purity.jitting import jit
from fourbeat.purity.report import Finding, ImpureError, Kind, Level, Report

__all__ = ["Finding", "ImpureError", "Kind", "Level", "Report", "StaleReadError", "check", "jit"]
