"""Laws 4 and 10: stopped or killed anywhere and resumed, a run ends with the same bits; nothing is lost."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fourbeat.runs.states import read_summary
from fourbeat.testing import assert_resumes_exactly
from tests.resumable_run import KIND, NUM_STEPS, STEPS_PER_EPOCH, make_beats, train

STOPS = (1, 7, 8, 22)
ROOT = Path(__file__).parents[1]
PROGRAM = [sys.executable, "-m", "tests.resumable_run"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The digest of the run that was never stopped, and its history."""
    directory = tmp_path_factory.mktemp("unbroken")
    digest = train(directory, save_every=NUM_STEPS)
    return digest, (directory / "metrics.jsonl").read_text()


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_the_run_holds_what_it_is_meant_to_hold(unbroken, tmp_path):
    """A test of the test: a step is skipped, the rate is halved, every epoch sees each example once."""
    _, history = unbroken
    steps = [line for line in lines_of(history) if "train_ids" in line]
    assert [line["step"] for line in steps] == list(range(1, NUM_STEPS + 1))
    epoch = [i for line in steps[:STEPS_PER_EPOCH] for i in line["train_ids"]]
    assert len(set(epoch)) == len(epoch) == 8 * STEPS_PER_EPOCH
    assert any(line["train_loss"] == "nan" for line in steps)
    beats, *_ = make_beats()
    state = beats.init(KIND.make(0))
    assert state.ema is not None and state.loss_scale is not None and state.guard is not None


def test_stopped_at_any_step_and_resumed_it_ends_with_the_same_bits():
    """The digest is of the history too. A run refuses fewer steps than it has done, and loses nothing."""

    def train_to(directory, stop_at):
        at_the_end_alone = {"save_every": NUM_STEPS}
        try:
            return train(directory, stop_at=stop_at, **at_the_end_alone)
        except ValueError as refusal:
            if f"is at step {NUM_STEPS} already" not in str(refusal):
                raise
            return train(directory, **at_the_end_alone)

    assert_resumes_exactly(train_to, stops=STOPS)


def test_killed_at_random_moments_it_ends_with_the_same_bits(unbroken, tmp_path):
    moments = random.Random(0)
    for _ in range(2):
        process = subprocess.Popen([*PROGRAM, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        seen = _num_lines(tmp_path)
        while _num_lines(tmp_path) <= seen and process.poll() is None:
            time.sleep(0.01)  # until it takes its first step
        time.sleep(moments.uniform(0, 0.3))
        if process.poll() is None:
            assert read_summary(tmp_path)["state"] in ("running", "finished")
        process.kill()
        process.communicate()
        is_killed = process.returncode == -signal.SIGKILL
        assert read_summary(tmp_path)["state"] in ("finished", *(["killed"] if is_killed else []))
    done = subprocess.run([*PROGRAM, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == unbroken[0], done.stderr
    assert (tmp_path / "metrics.jsonl").read_text() == unbroken[1]


def _num_lines(directory):
    file = directory / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0
