"""The example of Ray Train: a worker that is killed is recovered, and the end is that of the unbroken run.

It needs the extra `ray`. Each run takes a minute of two cores.
"""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs fourbeat[ray]")

ROOT = Path(__file__).parents[2]
STEPS, SAVE_EVERY = 40, 10
WITHIN_S = 300


def started(out, log):
    said = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "RAY_USAGE_STATS_ENABLED": "0"}
    said |= {"PYTHONUNBUFFERED": "1", "JAX_COMPILATION_CACHE_DIR": str(out.parent / "compiled")}
    flags = ["--workers", "2", "--out", str(out), "--steps", str(STEPS), "--save-every", str(SAVE_EVERY)]
    command = ["timeout", "-s", "INT", "-k", "20", str(WITHIN_S), sys.executable]
    with log.open("w") as output:
        return subprocess.Popen(
            [*command, str(ROOT / "examples" / "cluster" / "ray_train.py"), *flags],
            env=said, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip


def kill_worker_after_its_first_checkpoint(driver, out, log):
    while not any(out.glob(f"checkpoints/step-{SAVE_EVERY}-*/digest.json")):
        assert driver.poll() is None, log.read_text()
        time.sleep(0.1)
    os.kill(int(re.search(r"pid=(\d+)\) world_rank=1", log.read_text())[1]), signal.SIGKILL)


def test_a_killed_worker_is_recovered_and_the_end_is_that_of_the_unbroken_run(tmp_path):
    runs = {}
    for name in ("whole", "killed"):
        out, log = tmp_path / name, tmp_path / f"{name}.log"
        driver = started(out, log)
        if name == "killed":
            kill_worker_after_its_first_checkpoint(driver, out, log)
        assert driver.wait() == 0, log.read_text()
        runs[name] = out, log.read_text()
    assert "Error count: 1 (max allowed: 3)" in runs["killed"][1]
    assert re.search(r"going on from step [1-3]0", runs["killed"][1])

    def content(name, file):
        [found] = runs[name][0].glob(file)
        return json.loads(found.read_text())

    assert content("killed", "result.json") == content("whole", "result.json")
    digests = [content(name, f"checkpoints/step-{STEPS}-*/digest.json")["leaves"] for name in runs]
    assert digests[0] == digests[1] and len(digests[0]) > 20  # of each array of the state, bit by bit
    lines = [
        [{k: v for k, v in json.loads(line).items() if k != "data_wait_s"} for line in text.splitlines()]
        for text in [(runs[name][0] / "metrics.jsonl").read_text() for name in runs]
    ]
    assert lines[0] == lines[1] and [line["step"] for line in lines[0]] == [STEPS, STEPS]
    of_whole, of_killed = (content(name, "summary.json") for name in runs)
    assert (len(of_whole["resumes"]), len(of_killed["resumes"])) == (0, 1)
    assert of_whole["seconds"]["lost_to_restarts"] == 0 < of_killed["seconds"]["lost_to_restarts"]
