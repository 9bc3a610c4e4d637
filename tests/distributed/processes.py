"""Starts real processes of one program, joined on loopback."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests import quick_programs

ROOT = Path(__file__).parents[2]


class Ended(NamedTuple):
    """What a process did: what it printed, its exit status as in a shell, when it ended (`time.time`)."""

    output: str
    errors: str
    status: int
    at: float


class Started:
    """A process under way. Its own name in `timeout` makes sure that it ends."""

    def __init__(self, arguments, environment, folder, kill_after_s):
        self.ended_at = None
        self.output, self.errors = folder / "output", folder / "errors"
        folder.mkdir(parents=True)
        with self.output.open("w") as output, self.errors.open("w") as errors:
            self.outer = subprocess.Popen(
                ["timeout", "-s", "KILL", str(kill_after_s), *arguments],
                env=environment, stdout=output, stderr=errors, stdin=subprocess.DEVNULL, cwd=ROOT,
                start_new_session=True,
            )  # fmt: skip
        self.waiting = threading.Thread(target=self._wait, daemon=True)
        self.waiting.start()

    def _wait(self):
        self.outer.wait()
        self.ended_at = time.time()

    def pid(self):
        """Of the Python process itself, which `timeout` has started."""
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children")
        while self.ended_at is None:
            with suppress(OSError):
                if found := children.read_text().split():
                    return int(found[0])
            time.sleep(0.01)
        raise ProcessLookupError("the process has ended")

    def is_stopped(self):
        """Whether a signal has stopped the process, which then cannot end."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid()}/stat").read_text().rpartition(")")[2].split()[0] in "tT"
        return False

    def send(self, number):
        os.kill(self.pid(), number)

    def await_line(self, text, within_s=60):
        """Waits until the process has printed this."""
        ends = time.monotonic() + within_s
        while text not in self.output.read_text():
            if time.monotonic() > ends or self.ended_at is not None:
                raise AssertionError(
                    f"{text!r} is not in:\n{self.output.read_text()}{self.errors.read_text()}"
                )
            time.sleep(0.02)

    def ended(self):
        """What the process did, when it has ended."""
        self.waiting.join()
        status = shell_status(self.outer.returncode)
        return Ended(self.output.read_text(), self.errors.read_text(), status, self.ended_at)

    def kill(self):
        if self.ended_at is None:
            os.killpg(self.outer.pid, signal.SIGKILL)
            self.waiting.join()


def shell_status(status):
    """As a shell gives it: 128 and the number of the signal that ended the process."""
    return 128 - status if status < 0 else status


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(
    script,
    num_processes,
    folder,
    *,
    devices=1,
    kill_after_s=60,
    arguments=(),
    environment=(),
    ids=None,
    variables=None,
    port=None,
):
    """Starts the same script once for each process; gives those that are under way.

    Args:
      script: source text, or the path of a file. `fb.distributed.initialize()` finds the others without
        arguments: the variables are those of Kubeflow Trainer.
      num_processes: that train together.
      folder: an empty one, for what the processes print.
      devices: that each process sees.
      kill_after_s: they are killed then.
      arguments: of the script.
      environment: further variables.
      ids: which of the processes to start; all of them by default.
      variables: further ones of single processes, by their place among those that are started.
      port: of the coordinator; a free one by default.
    """
    folder = Path(folder)
    if not isinstance(script, Path):
        source, script = script, folder / "script.py"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(textwrap.dedent(source))
    address = f"127.0.0.1:{port or free_port()}"
    started = []
    for index in range(num_processes) if ids is None else ids:
        own = {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": quick_programs.flags(devices=devices),
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(num_processes),
            "JAX_PROCESS_ID": str(index),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, str(script), *map(str, arguments)]
        own_folder = folder / f"{len(started)}-{index}"
        own |= dict(environment) | dict((variables or {}).get(len(started), {}))
        started.append(Started(command, {**os.environ, **own}, own_folder, kill_after_s))
    return started


def run(script, num_processes, folder, **options):
    """As `start`, and waits for all. Gives what each did, by number of the process."""
    started = start(script, num_processes, folder, **options)
    try:
        return [each.ended() for each in started]
    finally:
        for each in started:
            each.kill()


def succeed(script, num_processes, folder, **options):
    """As `run`, and every process has to end with 0. Gives what each printed."""
    done = run(script, num_processes, folder, **options)
    for index, each in enumerate(done):
        assert each.status == 0, f"process {index} ended with {each.status}:\n{each.output}{each.errors}"
    return [each.output for each in done]
