"""Benchmarks: `python -m benchmarks`. Ratios within one run; nothing here is a test."""
