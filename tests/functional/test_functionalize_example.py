"""The example runs as a person runs it."""

import pathlib
import subprocess
import sys

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "counter.py"


def test_the_counter_in_three_forms():
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "jit of the method:    1 1 1",
        "explicit, by hand:    1 2 3",
        "functionalized:       1 2 3",
        "a scan of 1000 calls: 1000",
    ]
