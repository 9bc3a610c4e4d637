"""What the figures were measured on: names of processor, card, libraries. No host name, no path."""

import datetime
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("fourbeat", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
PEERS = ("equinox", "keras", "torch", "lightning")


def machine(threads: int) -> dict[str, Any]:
    """The machine in words: processor, cores, threads that every side may use, memory, system."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def machine_kind(about: dict[str, Any]) -> str:
    """The file name of its results: the processor or the card, and the threads.

    >>> machine_kind({"cpu": "AMD EPYC 9R14", "threads": 2})
    'amd-epyc-9r14-2-threads'
    >>> machine_kind({"cpu": "AMD EPYC 9R14", "threads": 16, "card": "NVIDIA H200"})
    'nvidia-h200'
    """
    name = about.get("card") or f"{about['cpu']} {about['threads']} threads"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def versions() -> dict[str, str]:
    """Installed versions of the libraries measured; those that are absent are left out."""
    found = {}
    for name in (*LIBRARIES, *PEERS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def today() -> str:
    """The date in UTC, as YYYY-MM-DD."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def num_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name, without trademark signs."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        name = found.group(1) if found else name
    return re.sub(r"\s+", " ", re.sub(r"\((R|TM)\)|Processor|CPU", "", name)).strip()


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
