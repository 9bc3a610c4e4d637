"""Models as `(static, params, rest)`: NNX modules and any other pytree, taken apart and put together."""

from fourbeat.models.holding import HeldObjectError, HeldObjectWarning
from fourbeat.models.path_filters import labels, paths
from fourbeat.models.splitting import Static, merge, split

__all__ = ["HeldObjectError", "HeldObjectWarning", "Static", "labels", "merge", "paths", "split"]
