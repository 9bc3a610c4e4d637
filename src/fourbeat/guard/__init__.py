"""Guards: a step with bad numbers is skipped inside the compiled program, and named on request."""

from fourbeat.guard.checking import BadStepError, Report, check
from fourbeat.guard.guard_state import GuardState
from fourbeat.guard.locating import Location, locate
from fourbeat.guard.skipping import Skip, Spike, skip

__all__ = ["BadStepError", "GuardState", "Location", "Report", "Skip", "Spike", "check", "locate", "skip"]
