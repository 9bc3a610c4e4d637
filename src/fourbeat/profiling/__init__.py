"""Profiling: what the steps of a loop spend their time on, as JAX's own profiler sees it."""

from fourbeat.profiling.tracing import UntracedWarning, trace

__all__ = ["UntracedWarning", "trace"]
