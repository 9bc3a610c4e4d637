"""A run that is asked to stop: it stops, saves, says how to go on, and goes on as if it had not."""

import itertools
import json
import os
import re
import shlex
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
    """And a test set of 320 images, in this process."""
    train, test = fb.data.mnist()
    monkeypatch.setattr(fb.data, "mnist", lambda: (train, test[:320]))
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
    assert "changed on resume" not in printed  # the time is that of a call
    assert "going on from step 1" in printed
    mnist_cnn.train(mnist_cnn.MnistCNN(out=tmp_path, steps=8, resume="latest"))
    assert f"{tmp_path} is finished, nothing to do   result loss" in capsys.readouterr().out


def asked_to_stop(out, *signals, ignored=()):
    """`(exit status, standard error)` of a run that gets these signals after its first checkpoint.

    The process ignores the signals of `ignored`, as after `nohup`, and none else, whatever this one ignores.
    """

    handlers = {n: "SIG_IGN" if n in ignored else "SIG_DFL" for n in (signal.SIGINT, signal.SIGHUP)}
    setting = "".join(f"signal.signal({n:d}, signal.{handler}); " for n, handler in handlers.items())
    parent = f"import os, signal, sys; {setting}os.execv(sys.argv[1], sys.argv[1:])"
    flags = ["--steps", "3000", "--save-every", "1", "--batch-size", "8", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", parent, FOURBEAT, "train", "mnist-cnn", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(out.glob("checkpoints/step-*")) and process.poll() is None:
        time.sleep(0.01)
    for number in signals:
        process.send_signal(number)
    _, err = process.communicate()
    return process.returncode, err


def test_ctrl_c_on_the_command_exits_with_130_and_the_printed_command_goes_on(tmp_path):
    status, err = asked_to_stop(tmp_path / "run", signal.SIGINT)
    assert status == 130, err
    assert "to go on:\nfourbeat train mnist-cnn --resume " in err
    command = err.strip().split("to go on:\nfourbeat ")[1].split()
    step = int(err.split("stopped at step ")[1].split(",")[0])
    done = subprocess.run([FOURBEAT, *command, "--steps", str(step + 2)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"changed on resume: steps 3000 -> {step + 2}" in done.stdout
    assert "batch_size" not in done.stdout  # the run's own flags are the defaults
    assert f"going on from step {step}\n" in done.stdout
    assert "test accuracy" in done.stdout
    progress = rf"step {step}/{step + 2}\n(compil\S+ .*\n)*step {step + 2}/{step + 2}   0:\d\d in all .*\n"
    assert re.fullmatch("fourbeat: loading JAX, building the model\n" + progress, done.stderr)


def test_a_closed_terminal_ends_it_saved_and_where_the_parent_ignores_that_it_goes_on(tmp_path):
    status, err = asked_to_stop(tmp_path / "run", signal.SIGHUP)
    assert status == 129, err
    assert f"saved; to go on:\nfourbeat train mnist-cnn --resume {tmp_path / 'run'}\n" in err
    ignored = (signal.SIGHUP, signal.SIGINT)
    status, err = asked_to_stop(tmp_path / "nohup", *ignored, signal.SIGTERM, ignored=ignored)
    assert status == 143, err


def test_a_reader_that_leaves_ends_it_saved(tmp_path):
    """Of standard output and of what the progress writes; the rest of the step's body runs."""
    flags = f"--steps 3000 --batch-size 8 --out {tmp_path / 'run'}"
    command = f"{FOURBEAT} train mnist-cnn {flags} 2>&1 | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
    step = fb.Checkpoints(tmp_path / "run/checkpoints").latest
    assert step is not None and step < 3000


class Leaving:
    """The ticks of a loop; at the fifth the reader of a pipe goes away."""

    def __init__(self, loop, reading):
        self.loop, self.reading = loop, reading

    def __iter__(self):
        for tick in self.loop:
            if tick.step == 5:
                os.close(self.reading)
            yield tick

    def show(self, **values):
        assert values


def test_a_reader_that_leaves_in_the_middle_loses_no_step(tmp_path, monkeypatch):
    reading, writing = os.pipe()
    whole = mnist_cnn.train(mnist_cnn.MnistCNN(out=tmp_path / "whole", steps=12))
    out = tmp_path / "it's left"
    with open(writing, "w", buffering=1) as pipe, monkeypatch.context() as patch:
        patch.setattr(fb, "progress", lambda loop: Leaving(loop, reading))
        patch.setattr(sys, "stdout", pipe)
        with pytest.raises(Interrupted) as caught:
            mnist_cnn.train(mnist_cnn.MnistCNN(out=out, steps=12))
    assert caught.value.signal == signal.SIGPIPE
    assert str(caught.value) == (
        f"stopped at step 6, saved; to go on:\nfourbeat train mnist-cnn --resume {shlex.quote(str(out))}"
    )
    assert_bit_equal(mnist_cnn.train(mnist_cnn.MnistCNN(out=out, steps=12, resume="latest")), whole)
    assert len(set(histories(tmp_path / "whole", out))) == 1
