"""Stateful things made explicit: models as plain dicts of arrays, methods as pure functions."""

from fourbeat.explicit.functionalizing import functionalize
from fourbeat.explicit.splitting import Static, merge, split
from fourbeat.explicit.stepping import as_step

__all__ = ["Static", "as_step", "functionalize", "merge", "split"]
