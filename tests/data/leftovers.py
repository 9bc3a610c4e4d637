"""What reading leaves behind: memory that grows from step to step, threads, processes."""

import gc
import multiprocessing
import sys
import threading

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


def assert_nothing_runs_on(threads):
    """No thread but those that ran before, and no process."""
    for thread in set(threading.enumerate()) - threads:
        if thread.name != "tqdm_monitor":  # of a bar that a library shows while it makes a data set
            thread.join(timeout=30)  # they end by themselves, a moment after they are told to
            assert not thread.is_alive(), thread
    assert multiprocessing.active_children() == []
