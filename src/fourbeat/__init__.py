"""You write the training loop; fourbeat makes every hard part of it correct, explicit and fast."""

from fourbeat.explicit import merge, split

__all__ = ["merge", "split"]
