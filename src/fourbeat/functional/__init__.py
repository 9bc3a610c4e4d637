"""Methods of any stateful object as pure functions of an explicit state."""

from fourbeat.functional.functionalizing import Functionalized, StatefulUseWarning, functionalize
from fourbeat.functional.object_state import ObjectState
from fourbeat.functional.refusals import FunctionalizeError, UnseenWriteError
from fourbeat.functional.stepping import as_step

__all__ = [
    "FunctionalizeError",
    "Functionalized",
    "ObjectState",
    "StatefulUseWarning",
    "UnseenWriteError",
    "as_step",
    "functionalize",
]
