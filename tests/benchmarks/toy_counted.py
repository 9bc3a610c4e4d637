"""Work of a known size in a second thread, for callgrind to count."""

import sys
import threading

from benchmarks import callgrind

ROUNDS = (1_000, 1_000, 6_000)


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
