"""A run that is asked to stop: it stops, saves, says how to go on, and goes on as if it had not."""

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fourbeat as fb
from fourbeat.recipes import mnist_cnn
from fourbeat.runs import Interrupted
from tests.kinds import assert_bit_equal

FOURBEAT = Path(sys.executable).with_name("fourbeat")


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr(mnist_cnn, "STEPS_PER_EPOCH", 6)
    monkeypatch.setattr(mnist_cnn, "HELD_OUT", 320)  # 10 batches


def lines_of(path):
    file = path / "metrics.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.exists() else []


def histories(*paths):
    return [(path / "metrics.jsonl").read_text() for path in paths]


def test_stopped_within_an_evaluation_it_evaluates_again_and_ends_with_the_same_bits(tmp_path, monkeypatch):
    whole = mnist_cnn.train(mnist_cnn.MnistCNN(out=tmp_path / "whole", steps=12))
    for stop_at in (6, 12):
        out = tmp_path / f"stopped-{stop_at}"
        with monkeypatch.context() as patch:
            signal_at_batch(patch, number=3 + (10 if stop_at == 12 else 0))
            with pytest.raises(Interrupted) as caught:
                mnist_cnn.train(mnist_cnn.MnistCNN(out=out, steps=12))
        assert str(caught.value) == (
            f"stopped at step {stop_at}, saved; to go on:\nfourbeat train mnist-cnn --resume {out}"
        )
        assert lines_of(out) == ([6] if stop_at == 12 else [])
        resumed = mnist_cnn.train(mnist_cnn.MnistCNN(out=out, steps=12, resume="latest"))
        assert_bit_equal(resumed, whole)
        assert len(set(histories(tmp_path / "whole", out))) == 1


def signal_at_batch(patch, number):
    """SIGTERM to this process during the `number`-th evaluation batch."""
    counter = itertools.count(1)
    real = fb.data.Batches.__getitem__

    def getitem(batches, step):
        if batches.num_examples == mnist_cnn.HELD_OUT and next(counter) == number:
            signal.raise_signal(signal.SIGTERM)
        return real(batches, step)

    patch.setattr(fb.data.Batches, "__getitem__", getitem)


def test_a_time_limit_saves_and_a_second_call_finishes(tmp_path, capsys):
    config = mnist_cnn.MnistCNN(out=tmp_path, steps=8, max_seconds=1e-6, resume="latest")
    state = mnist_cnn.train(config)
    assert state.step == 1
    assert f"stopped at step 1, saved; to go on:\nfourbeat train mnist-cnn --resume {tmp_path}" in (
        capsys.readouterr().out
    )
    state = mnist_cnn.train(mnist_cnn.MnistCNN(out=tmp_path, steps=8, resume="latest"))
    assert state.step == 8
    printed = capsys.readouterr().out
    assert "changed on resume: max_seconds 1e-06 -> None" in printed
    assert "no longer" not in printed
    assert "going on from step 1" in printed
    mnist_cnn.train(mnist_cnn.MnistCNN(out=tmp_path, steps=8, resume="latest"))
    assert f"{tmp_path} is finished, nothing to do   test loss" in capsys.readouterr().out


def test_ctrl_c_on_the_command_exits_with_130_and_the_printed_command_goes_on(tmp_path):
    flags = ["--steps", "3000", "--save-every", "1", "--batch-size", "8", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [FOURBEAT, "train", "mnist-cnn", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.glob("run/checkpoints/step-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "to go on:\nfourbeat train mnist-cnn --resume " in err
    command = err.strip().split("to go on:\nfourbeat ")[1].split()
    step = int(err.split("stopped at step ")[1].split(",")[0])
    done = subprocess.run([FOURBEAT, *command, "--steps", str(step + 2)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"changed on resume: steps 3000 -> {step + 2}" in done.stdout
    assert "batch_size" not in done.stdout  # the run's own flags are the defaults
    assert f"going on from step {step}\n" in done.stdout
