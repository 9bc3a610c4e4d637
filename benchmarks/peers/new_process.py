"""What a person waits for: an import, or the first finished step of a new process."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.jobs import from_settings
from benchmarks.peers.scratch import scratch_folder
from benchmarks.worker import load

CACHES = ("JAX_COMPILATION_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
NEEDS = {"torch_loop": "torch", "lightning_trainer": "lightning", "keras_fit": "keras"}
KEEP_ALL = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


class Import:
    """A whole new process that imports, and ends."""

    def __init__(self, settings, *, names):
        self.names = names

    def run(self, amount):
        """So many processes."""
        for _ in range(amount):
            subprocess.run([sys.executable, "-c", f"import {self.names}"], check=True)

    def scores(self):
        """Nothing is trained."""
        return {"loss": 0.0}


class FirstStep:
    """From the start of a process to the end of its first training step.

    Args:
      settings: with the job.
      factory: of the side, "module:name".
      options: of the factory.
      warm: whether compilation caches are kept from one process to the next.
    """

    def __init__(self, settings, *, factory, options=None, warm=False):
        self.told = json.dumps({"settings": settings, "factory": factory, "options": options or {}})
        self.warm = warm
        self.folder = scratch_folder(self)
        needed = NEEDS.get(factory.partition(":")[0].rpartition(".")[2], "numpy")
        if importlib.util.find_spec(needed) is None:
            raise ModuleNotFoundError(f"No module named {needed!r}", name=needed)

    def run(self, amount):
        """So many processes; what they do after the first step is not counted."""
        seconds = 0.0
        for _ in range(amount):
            with tempfile.TemporaryDirectory() as cold:
                cache = self.folder if self.warm else Path(cold)
                caches = {name: str(cache / name.lower()) for name in CACHES}
                began = time.perf_counter()
                process = subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.peers.new_process"],
                    env={**os.environ, **caches, **KEEP_ALL},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(self.told)
                process.stdin.close()
                first = process.stdout.readline()
                seconds += time.perf_counter() - began
                rest = process.stdout.read()
                process.stdout.close()
                if process.wait() or first != "first step\n":
                    raise RuntimeError(f"its new process ended with status {process.returncode}")
                self.loss = json.loads(rest)["loss"]
        return {"seconds": seconds}

    def scores(self):
        """The loss after the first step."""
        return {"loss": self.loss}


def main():
    """The new process: says when its first step is done, and then what the loss is."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    told = json.loads(sys.stdin.read())
    side = load(told["factory"])(told["settings"], **told["options"])
    side.run(1)
    answers.write("first step\n")
    answers.flush()
    answers.write(json.dumps(from_settings(told["settings"]).scores(side.logits)))
    answers.close()


if __name__ == "__main__":
    main()
