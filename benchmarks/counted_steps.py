"""The machine instructions of a training step, counted in a process of its own.

Compiled kernels and Python together, in all threads of the process, counted by valgrind. Each side has one
core, so that no thread of XLA's spins while it waits for another. valgrind has no AVX-512: where a processor
has it, XLA's kernels are here those for AVX2. It also works out fused multiply-adds in software, which makes
a step take half a minute. Two counts of a side agree to 0.2 %.
"""

import gc
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import callgrind
from benchmarks.work import Side
from benchmarks.worker import load

SHORT, LONG = 1, 3  # steps of two counts; what begins and ends a run is in both
LINE_EVERY = 100  # steps between two lines of the log


def megainstructions(
    settings: Mapping[str, Any], sides: Mapping[str, Side], say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """A fact for each side that could be counted; none where valgrind is not installed.

    Args:
      settings: of the sides; as many are counted at a time as they have `threads`.
      sides: whose factory makes a `benchmarks.peers.watched.Watched`.
      say: told what is going on.
    """
    if not callgrind.installed():
        say("instructions not counted: valgrind is not installed")
        return {}
    cores = sorted(os.sched_getaffinity(0))[: settings["threads"]]
    pin = threading.Lock(), iter(cores)
    found = {}

    def count(name: str) -> None:
        try:
            found[name] = {"megainstructions": instructions(settings, sides[name]) / 1e6}
            say(f"{name}: {found[name]['megainstructions']:.2f} million instructions a step")
        except RuntimeError as error:
            say(f"{name}: instructions not counted: {error}")

    # a thread of this pool has one core, and so has the process that it starts
    with ThreadPoolExecutor(len(cores), initializer=_pin, initargs=pin) as pool:
        list(pool.map(count, sides))
    return {name: found[name] for name in sides if name in found}


def instructions(settings: Mapping[str, Any], side: Side) -> float:
    """Instructions of a step of one side: those of its steps, and its share of a line in the log."""
    arguments = [json.dumps(each) for each in (side.factory, dict(settings), dict(side.options))]
    num_windows = 3 if side.options.get("logging") else 2
    counts = callgrind.totals(
        "benchmarks.counted_steps", *arguments, num_windows=num_windows, all_threads=True, later=True
    )
    return of_a_step(*counts)


def of_a_step(short: int, long: int, short_with_line: int | None = None) -> float:
    """Instructions of a step, from those of two runs; of each hundredth, from a third, what a line adds.

    >>> of_a_step(1_010, 3_010, 1_710)
    1007.0
    """
    line = 0 if short_with_line is None else short_with_line - short
    return (long - short) / (LONG - SHORT) + line / LINE_EVERY


def _counted(factory: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    side = load(factory)(settings, **options)
    side.line_every = 1
    side.run(1)  # what compiles, and what a first line brings in, is not counted
    gc.collect()
    gc.disable()
    callgrind.begin()
    runs = [(SHORT, LINE_EVERY), (LONG, LINE_EVERY), *[(SHORT, 1)] * bool(options.get("logging"))]
    for num_steps, side.line_every in runs:
        with callgrind.window():
            side.run(num_steps)


def _pin(lock: threading.Lock, cores: Any) -> None:
    with lock:
        os.sched_setaffinity(0, {next(cores)})


if __name__ == "__main__":
    assert sys.argv[1] == callgrind.COUNTED
    _counted(*(json.loads(argument) for argument in sys.argv[2:]))
