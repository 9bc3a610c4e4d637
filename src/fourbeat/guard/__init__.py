"""Guards: a step with bad numbers is skipped inside the compiled program, and named on request."""

from typing import TYPE_CHECKING

from fourbeat._lazy_names import lazy_names

if TYPE_CHECKING:
    from fourbeat.guard.checking import BadStepError, Report, check
    from fourbeat.guard.guard_state import GuardState
    from fourbeat.guard.locating import Location, locate
    from fourbeat.guard.skipping import Skip, Spike, skip

_NAMES = {
    "checking": ("BadStepError", "Report", "check"),
    "guard_state": ("GuardState",),
    "locating": ("Location", "locate"),
    "skipping": ("Skip", "Spike", "skip"),
}

__all__ = [
    "BadStepError",
    "GuardState",
    "Location",
    "Report",
    "Skip",
    "Spike",
    "check",
    "locate",
    "skip",
]

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
