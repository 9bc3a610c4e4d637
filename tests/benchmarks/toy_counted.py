"""Work of a known size, for callgrind to count: turns of a loop in a second thread, and a copy."""

import sys
import threading

from benchmarks import callgrind

# The first window holds what begins, too; the last is long beside what starting a thread costs.
ROUNDS = (1_000, 1_000, 51_000)
COPIED_BYTES = 2**20


def spin(rounds):
    """Does nothing, so many times."""
    for _ in range(rounds):
        pass


if __name__ == "__main__":
    if "later" in sys.argv:
        callgrind.begin()
    for rounds in ROUNDS:
        with callgrind.window():
            thread = threading.Thread(target=spin, args=(rounds,))
            thread.start()
            thread.join()
    target, source = bytearray(COPIED_BYTES), bytearray(COPIED_BYTES)
    with callgrind.window():
        target[:] = source
