"""`python -m benchmarks.instructions`: what a tick costs in machine instructions, which noise does not move.

Counted by valgrind's callgrind, which has to be installed. The unit is a loop written by hand that takes its
examples from a permutation and asks for every 37th step: so that a count holds on another machine.
"""

import gc
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from benchmarks import callgrind

NUM_STEPS = 1_000
NUM_EXAMPLES, BATCH_SIZE, EVERY = 40_000, 8, 37
WINDOWS = (200, 200, 200 + NUM_STEPS)  # steps of each count; the first of a loop also counts what begins


def instructions_per_step() -> dict[str, float]:
    """Instructions of a step of each loop, by name.

    Raises:
      RuntimeError: valgrind failed; its last lines are told.
    """
    totals = callgrind.totals(
        "benchmarks.instructions", num_windows=len(WINDOWS) * len(LOOPS), all_threads=False, later=True
    )
    short, long = totals[1 :: len(WINDOWS)], totals[2 :: len(WINDOWS)]
    return {name: (more - less) / NUM_STEPS for name, less, more in zip(LOOPS, short, long, strict=True)}


@cache
def training_data() -> Any:
    """Batches, made once: the first use of data uploads it."""
    import numpy as np

    import fourbeat as fb

    columns = fb.data.Arrays(x=np.zeros((NUM_EXAMPLES, 4), np.float32))
    return columns.batches(BATCH_SIZE, shuffle=True, seed=0, remainder="drop")


def ticks(num_steps: int) -> int:
    """A loop over `Batches` with one mark."""
    import fourbeat as fb

    log, num_logged = fb.every(steps=EVERY), 0
    for tick in fb.loop(training_data(), until=fb.at(steps=num_steps), marks=[log]):
        if log in tick:
            num_logged += 1
    return num_logged


def by_hand(num_steps: int) -> int:
    """The same by hand."""
    import numpy as np

    order, num_logged = np.random.RandomState([0, 0]).permutation(NUM_EXAMPLES), 0
    for step in range(num_steps):
        batch = {"examples": order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]}
        if (step + 1) % EVERY == 0:
            num_logged += len(batch)
    return num_logged


LOOPS: dict[str, Callable[[int], int]] = {"a tick of fb.loop": ticks, "a step by hand": by_hand}


def _counted() -> None:
    gc.disable()
    for loop in LOOPS.values():
        loop(1)  # imports, uploads the data and compiles
    callgrind.begin()
    for loop in LOOPS.values():
        for num_steps in WINDOWS:
            with callgrind.window():
                loop(num_steps)


def main() -> None:
    """Counts, and prints."""
    if callgrind.COUNTED in sys.argv:
        _counted()
        return
    counts = instructions_per_step()
    unit = counts["a step by hand"]
    for name, count in counts.items():
        print(f"{name:20s} {count:9,.0f} instructions   {count / unit:5.2f} of a step by hand")


if __name__ == "__main__":
    main()
