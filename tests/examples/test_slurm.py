"""The Slurm script of `examples/cluster/`: a preempted job saves its run, and goes on when queued again.

The script, the processes, the signals and the run are real. `srun` and `scontrol` are small stand-ins.
"""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fourbeat.runs.states import read_summary

ROOT = Path(__file__).parents[2]
SCRIPT, STAND_INS = ROOT / "examples" / "cluster" / "train.sbatch", Path(__file__).parent / "slurm"
STEPS, PREEMPTED_AT = 60, 20


def test_a_script_is_one_that_bash_can_read():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


def submitted(folder, *flags, restarts=0):
    """Runs the script as Slurm does: `(status, what it printed)`."""
    script, command = SCRIPT.read_text(), "command=(fourbeat train mnist-cnn)"
    assert command in script
    script = script.replace(command, f"command=({sys.executable} {STAND_INS / 'train.py'})")  # as a user does
    said = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "JAX_CO"))}
    said |= {"SLURM_JOB_NAME": "fourbeat", "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NUM_NODES": "2"}
    said |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_RESTART_COUNT": str(restarts)}
    said |= {"PATH": f"{STAND_INS}:{said['PATH']}", "PYTHONUNBUFFERED": "1", "JAX_PLATFORMS": "cpu"}
    said |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    shell = f"export BATCH_PID=$$\n{script}"  # the number of this process, which gets the scheduler's signal
    done = subprocess.run(  # the number of a job chooses its port: that of this process is its own
        ["timeout", "-s", "KILL", "120", "bash", "-c", shell, "train.sbatch", *flags],
        cwd=folder, env=said, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def by_hand(num_steps):
    """The weights after so many steps of gradient descent, and the losses, in NumPy."""
    parts = runpy.run_path(str(STAND_INS / "train.py"))
    batches, weights, losses = parts["make_batches"](), np.zeros(3), []
    for step in range(num_steps):
        batch = batches[step].materialize()
        x, y = np.asarray(batch["x"], np.float64), np.asarray(batch["y"], np.float64)
        errors = x @ weights - y
        losses.append(np.mean(errors**2))
        weights = weights - parts["RATE"] * 2 * errors @ x / len(x)
    return weights, losses


def test_a_preempted_job_saves_its_run_and_goes_on_when_it_is_queued_again(tmp_path):
    run = tmp_path / "runs" / "fourbeat"
    status, printed = submitted(tmp_path, "--preempt-at", str(PREEMPTED_AT))
    stopped = read_summary(run)
    assert status == 143, printed  # 128 and the number of SIGTERM
    assert (stopped["state"], stopped["signal"]) == ("stopped", 15)
    assert PREEMPTED_AT <= stopped["step"] < STEPS
    assert printed.count(f"stopped at step {stopped['step']}, saved") == 1  # one process speaks
    assert (tmp_path / "scontrol.log").read_text() == f"requeue {os.getpid()}\n"

    status, printed = submitted(tmp_path, restarts=1)
    assert (status, printed.count(f"going on from step {stopped['step']}")) == (0, 1), printed
    assert (tmp_path / "scontrol.log").read_text().count("requeue") == 1  # a job that is done is not queued
    ended = read_summary(run)
    assert (ended["state"], [each["step"] for each in ended["resumes"]]) == ("finished", [stopped["step"]])
    weights, losses = by_hand(STEPS)
    result = json.loads((run / "result.json").read_text())
    np.testing.assert_allclose([result["w0"], result["w1"], result["w2"]], weights, atol=1e-6)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [*range(1, STEPS + 1)]
    np.testing.assert_allclose([line["loss"] for line in lines], losses, rtol=1e-4, atol=1e-7)

    # what the restart cost: the start-up of the second attempt, and nothing else
    seconds, shares = ended["seconds"], ended["shares_percent"]
    assert stopped["seconds"]["lost_to_restarts"] == 0 < seconds["lost_to_restarts"]
    assert seconds["steps"] > stopped["seconds"]["steps"] and sum(shares.values()) == pytest.approx(100)
