"""Stateful things made explicit: models as plain dicts of arrays, methods as pure functions."""

from fourbeat.explicit.functionalizing import Functionalized, StatefulUseWarning, functionalize
from fourbeat.explicit.holding import HeldObjectError, HeldObjectWarning
from fourbeat.explicit.object_state import ObjectState
from fourbeat.explicit.refusals import FunctionalizeError, UnseenWriteError
from fourbeat.explicit.splitting import Static, merge, split
from fourbeat.explicit.stepping import as_step

__all__ = [
    "FunctionalizeError",
    "Functionalized",
    "HeldObjectError",
    "HeldObjectWarning",
    "ObjectState",
    "StatefulUseWarning",
    "Static",
    "UnseenWriteError",
    "as_step",
    "functionalize",
    "merge",
    "split",
]
