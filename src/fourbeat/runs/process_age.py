"""How long this process has been running: the start-up of the first run that it opens."""

import os
import sys
import time
from pathlib import Path

_claimed: list[int] = []  # the process whose age a run has taken


def unclaimed_age_s() -> float:
    """Seconds since the process began, for the first run that asks; 0 for each one after it.

    It is 0 in an interactive session as well, which may have lasted long, and where the system does not tell
    it: Linux does.
    """
    if os.getpid() in _claimed or hasattr(sys, "ps1"):
        return 0.0
    _claimed[:] = [os.getpid()]
    try:
        told = Path("/proc/self/stat").read_text()
    except OSError:
        return 0.0
    ticks = int(told.rpartition(")")[2].split()[19])  # the 22nd field, "starttime": clock ticks since boot
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), 0.0)
