"""Instructions of a process, which noise does not move: counted by valgrind's callgrind where it is there.

What is counted lies in windows: `totals` runs a module, and there each `with window():` is one count.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

COUNTED = "--counted"
# callgrind takes one `rep movsb`, as the C library copies with, for as many instructions as it copies bytes:
# without it copies are loops over vectors
NO_REP = "glibc.cpu.hwcaps=-ERMS,-FSRM"


def installed() -> bool:
    """Whether there is a valgrind to count with."""
    return shutil.which("valgrind") is not None


def totals(module: str, *arguments: str, num_windows: int, all_threads: bool, later: bool) -> list[int]:
    """Instructions in each window of `python -m module --counted`, in their order.

    Args:
      module: what to run.
      arguments: of it, after `--counted`.
      num_windows: how many windows it has.
      all_threads: whether to count those of every thread; of the main thread otherwise.
      later: whether nothing is counted, and the program runs faster, until it calls `begin`.

    Raises:
      RuntimeError: valgrind failed; its last lines are told.
    """
    with tempfile.TemporaryDirectory() as directory:
        counts = Path(directory) / "counts"
        # the windows begin and end with two calls of the system that nothing else here makes
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}"]
        tool += ["--zero-before=getppid", "--dump-before=getsid"]
        tool += [f"--separate-threads={'no' if all_threads else 'yes'}"]
        tool += [f"--instr-atstart={'no' if later else 'yes'}"]
        done = subprocess.run(
            [*tool, sys.executable, "-m", module, COUNTED, *arguments],
            env={**os.environ, "PYTHONHASHSEED": "0", "JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": NO_REP},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"valgrind ended with {done.returncode}: {done.stderr[-2_000:]}")
        thread = "" if all_threads else "-01"
        return [_total(counts.with_name(f"counts.{i + 1}{thread}")) for i in range(num_windows)]


def begin() -> None:
    """Called in the process that is counted with `later`: from here on there is something to count."""
    subprocess.run(
        ["callgrind_control", "--instr=on", str(os.getpid())], check=True, stdout=subprocess.DEVNULL
    )


@contextlib.contextmanager
def window() -> Iterator[None]:
    """Called in the process that is counted: what is within is one count."""
    os.getppid()
    yield
    os.getsid(0)


def _total(file: Path) -> int:
    found = re.search(r"^totals: (\d+)$", file.read_text(), re.MULTILINE)
    assert found is not None, file
    return int(found[1])
