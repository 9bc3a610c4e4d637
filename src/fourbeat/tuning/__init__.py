"""Tuning: numbers that a short trial on real batches suggests."""

from fourbeat.tuning.lr_range import RateRange, lr_range_test

__all__ = ["RateRange", "lr_range_test"]
