"""The measuring end of a side's process: start it, ask it, end it."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")


class SideError(RuntimeError):
    """A side failed: what it said."""


class Absent(RuntimeError):
    """A side's library is not installed here."""


class SideProcess:
    """A side that computes in its own process, and only between a question and its answer.

    Args:
      factory: "module:name" of what makes the side, called with the settings and the options.
      settings: the same for every side of a work; `threads` is how many cores it may use.
      options: of this side.
    """

    def __init__(
        self,
        factory: str,
        settings: Mapping[str, Any],
        options: Mapping[str, Any],
        *,
        environment: Mapping[str, str] | None = None,
    ):
        threads = str(settings["threads"])
        environment = {**os.environ, **dict.fromkeys(THREADS, threads), **(environment or {})}
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("BENCHMARKS_VERBOSE") else subprocess.DEVNULL,
            cwd=Path(__file__).parents[1],
            env=environment,
            text=True,
        )
        self.idle_cpu_s = 0.0
        self.peak_memory_bytes = 0
        self._ask({"factory": factory, "settings": dict(settings), "options": dict(options)})
        self.start_s = time.perf_counter() - began

    def learn(self, amount: int) -> dict[str, Any]:
        """Trains on the real batches, uncounted; returns the seconds."""
        return self._ask({"do": "learn", "amount": amount})

    def run(self, amount: int) -> dict[str, Any]:
        """Does one round of work; returns its seconds and what the side says of it."""
        return self._ask({"do": "run", "amount": amount})

    def scores(self) -> dict[str, Any]:
        """Loss and accuracy as they are now, and facts that the side states of itself."""
        return self._ask({"do": "scores"})

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> "SideProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            raise SideError(f"its process ended with status {code}")
        answer = json.loads(line)
        self.idle_cpu_s += answer.pop("idle_cpu_s")
        self.peak_memory_bytes = answer.pop("peak_memory_bytes")
        if "absent" in answer:
            self.close()
            raise Absent(answer["absent"])
        if "error" in answer:
            self.close()
            raise SideError(answer["error"])
        return answer
