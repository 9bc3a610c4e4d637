"""Stateful things made explicit: models as plain dicts of arrays."""

from fourbeat.explicit.splitting import Static, merge, split

__all__ = ["Static", "merge", "split"]
