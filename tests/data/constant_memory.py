"""Whether reading on and on takes ever more memory."""

import gc
import sys

import jax


def assert_memory_stays(ticks, num_steps):
    """In the second half of the steps: an object kept at every fourth of them would be seen."""
    before = None
    for tick in ticks:
        if tick.step == num_steps // 2:
            before = _held()
    assert tick.step == num_steps
    for name, held in _held().items():
        assert held - before[name] < num_steps // 8, name


def _held():
    gc.collect()
    held = {"blocks": sys.getallocatedblocks(), "arrays": 100 * len(jax.live_arrays())}
    if "pyarrow" in sys.modules:  # its memory is not Python's
        held["KiB of Arrow"] = sys.modules["pyarrow"].total_allocated_bytes() // 1024
    return held
