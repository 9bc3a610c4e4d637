"""CPU time as what a side tells of a round: what other processes do beside it does not count."""

import functools
import time


def in_cpu_time(run):
    """`run(self, amount)`, which tells the CPU time of its process, all threads together, as its seconds."""

    @functools.wraps(run)
    def timed(self, amount):
        began_s = time.process_time()
        told = run(self, amount) or {}
        return {**told, "seconds": time.process_time() - began_s}

    return timed
