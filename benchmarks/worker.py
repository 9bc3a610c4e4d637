"""One side in a process of its own: it computes only while it is asked to.

`python -m benchmarks.worker` reads one JSON line on standard input that says which side, and then one for
each command (`learn`, `run`, `scores`); it answers each with one JSON line. What libraries print goes to
standard error.
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main() -> None:
    """Serves one side until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints must not speak in our place
    side, idle_from = None, None
    for line in sys.stdin:
        command = json.loads(line)
        idle_cpu_s = 0.0 if idle_from is None else time.process_time() - idle_from
        try:
            if side is None:
                pin(command["settings"]["threads"])
                began = time.perf_counter()
                side = load(command["factory"])(command["settings"], **command["options"])
                answer = {"seconds": time.perf_counter() - began}
            else:
                answer = obey(side, command)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            answer = {"absent": f"{missing} is not installed" if missing else str(error)}
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            traceback.print_exc()
            where = f"{Path(last.filename).name}:{last.lineno}"
            answer = {"error": f"{type(error).__name__}: {error} ({where})"}
        answer |= {"idle_cpu_s": idle_cpu_s, "peak_memory_bytes": peak_memory_bytes()}
        idle_from = time.process_time()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def obey(side: Any, command: Mapping[str, Any]) -> dict[str, Any]:
    """Does what one command says; a side's own "seconds" count before ours."""
    if command["do"] == "scores":
        return {"scores": side.scores(), "facts": getattr(side, "facts", {})}
    does = getattr(side, "learn", side.run) if command["do"] == "learn" else side.run
    began = time.perf_counter()
    told = does(command["amount"])
    return {"seconds": time.perf_counter() - began} | (told or {})


def load(factory: str) -> Any:
    """The object that "module:name" names."""
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)


def pin(threads: int) -> None:
    """Keeps the process to as many cores as it may have threads: every library's pool follows."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def peak_memory_bytes() -> int:
    """The most memory that this process ever held; `ru_maxrss` counts what it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
