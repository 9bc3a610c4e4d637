"""The main job on the real MNIST, on tiny budgets."""

import json
import os
import re
import signal
import warnings
from functools import partial

import jax
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat import runs
from fourbeat.recipes import digits, mnist_cnn
from fourbeat.replicating import ReplicasState
from fourbeat.runs import Interrupted
from tests.docs.blocks import ROOT, blocks_of
from tests.kinds import assert_bit_equal
from tests.oracles import mnist_cnn_by_hand as by_hand


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr(mnist_cnn, "STEPS_PER_EPOCH", 10)
    monkeypatch.setattr(mnist_cnn, "HELD_OUT", 320)


@pytest.fixture
def few_test_images(monkeypatch):
    """The test set cut down to 320 images."""
    train, test = fb.data.mnist()
    monkeypatch.setattr(fb.data, "mnist", lambda: (train, test[:320]))


def lines_of(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_bit_equal_to_the_training_written_by_hand_on_the_real_data():
    images, labels = by_hand.read_mnist("train")
    model, losses = by_hand.train(images, labels, num_steps=12)
    metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())
    beats = fb.four_beats(mnist_cnn.loss_fn, optax.adamw(5e-3, b1=0.9), metrics=metrics)
    batches = fb.data.mnist()[0].batches(32, shuffle=True, seed=0, remainder="drop")
    state, step = beats.init(mnist_cnn.CNN(rngs=nnx.Rngs(0))), fb.compile(beats.train_step)
    our_losses = []
    for tick in fb.loop(batches, until=fb.at(steps=12)):
        state, logs = step(state, tick.batch)
        our_losses.append(float(logs["loss"]))
    assert our_losses == losses
    assert_bit_equal(state.params, nnx.to_pure_dict(nnx.state(model, nnx.Param)))


def test_a_run_prints_and_writes_what_it_promises(few_test_images, tmp_path, capsys):
    config = mnist_cnn.MnistCNN(out=tmp_path / "run", steps=20, precision_recall=True, clip_norm=1.0)
    state = mnist_cnn.train(config)
    printed = capsys.readouterr().out
    assert int(state.step) == 20
    for text in ("conv1.kernel", "824,458", "step    10", "step    20", "predicted", "class  precision"):
        assert text in printed
    assert "true      7 2 1 0 4 1 4 9 5 9" in printed
    written = {path.name for path in config.out.iterdir()}
    files = {"config.json", "metrics.jsonl", "result.json", "curves.png", "confusion_matrix.png"}
    assert written == {*files, "summary.json", "checkpoints", "lock"}
    first, second, test = lines_of(config.out)
    assert [line["step"] for line in (first, second, test)] == [10, 20, 20]
    assert set(first) == {"step", "train_loss", "train_accuracy", "eval_loss", "eval_accuracy"}
    described = json.loads((config.out / "config.json").read_text())
    assert described["flags"]["steps"] == 20
    assert described["recipe"] == "mnist-cnn"
    # the test accuracy that was printed, against NumPy's own count
    images, labels = by_hand.read_mnist("t10k")
    images, labels = images[:320], labels[:320]
    right = int((np.asarray(jax.jit(state.model)(images)).argmax(-1) == labels).sum())
    assert test["test_accuracy"] == pytest.approx(right / 320, abs=1e-6)
    reached, times, written, then = printed.splitlines()[-4:]
    best = max((first, second), key=lambda line: line["eval_accuracy"])
    assert reached == (
        f"test loss {test['test_loss']:.4f}   test accuracy {right / 320:.4f}   "
        f"best eval accuracy {best['eval_accuracy']:.4f} at step {best['step']}   after step 20"
    )
    assert re.fullmatch(r"[\d.]+ s: steps [\d.]+ %, compiling [\d.]+ %, .*other [\d.]+ %", times)
    assert written == f"written to {config.out}"
    assert then == (
        f"next:   fourbeat evaluate {config.out}   fourbeat predict {config.out} FILE...   "
        f"fourbeat report {config.out}"
    )
    confusion = np.array(test["test_confusion"])
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(labels))  # has all ten classes
    assert np.trace(confusion) == right


def test_the_same_seed_is_the_same_run_and_training_never_sees_held_out_or_test_images(
    few_test_images, tmp_path
):
    configs = [mnist_cnn.MnistCNN(out=tmp_path / name, steps=3) for name in ("a", "b")]
    one, other = map(mnist_cnn.train, configs)
    assert_bit_equal(one, other)
    assert lines_of(configs[0].out) == lines_of(configs[1].out)
    train, _ = fb.data.mnist()
    rest, held_out = train.split(mnist_cnn.HELD_OUT, seed=0)
    assert (len(rest), len(held_out)) == (59_680, 320)
    number = fb.data.Arrays(row=np.arange(60_000)).split(mnist_cnn.HELD_OUT, seed=0)
    assert not set(number[0].columns["row"]) & set(number[1].columns["row"])


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "rmsprop", "sgd"])
def test_every_optimizer_and_the_schedule_can_be_had(optimizer):
    config = mnist_cnn.MnistCNN(optimizer=optimizer, schedule="warmup-cosine", steps=100, clip_norm=1.0)
    params = {"w": np.ones(2, np.float32)}
    tx = mnist_cnn.make_optimizer(config)
    updates, _ = tx.update({"w": np.full(2, 1e6, np.float32)}, tx.init(params), params)
    assert not np.asarray(updates["w"]).any()  # warm-up starts at a rate of 0


def test_patience_stops_a_run_that_does_not_improve(few_test_images, tmp_path, capsys):
    config = mnist_cnn.MnistCNN(out=tmp_path, steps=100, patience=1, learning_rate=0.0)
    state = mnist_cnn.train(config)
    assert int(state.step) == 20
    assert "stopped early: the last score was no better than the best, 0." in capsys.readouterr().out


def test_replicas_go_on_exactly_are_drawn_as_a_band_and_scored_by_the_best(few_test_images, tmp_path, capsys):
    config = partial(mnist_cnn.MnistCNN, replicas=2, batch_size=8, save_every=10, log_every=5)
    state = mnist_cnn.train(config(out=tmp_path / "whole", steps=20))
    assert isinstance(state, ReplicasState) and not state.vmapped  # convolutions on a CPU
    alone = mnist_cnn.train(mnist_cnn.MnistCNN(out=tmp_path / "alone", steps=20, batch_size=8, log_every=5))
    assert_bit_equal(state.member(0), alone)
    mnist_cnn.train(config(out=tmp_path / "parts", steps=10))
    resumed = mnist_cnn.train(config(out=tmp_path / "parts", steps=20, resume="latest"))
    assert_bit_equal(resumed, state)

    *_, scored, _ = lines = lines_of(tmp_path / "whole")
    both = scored["members_eval_accuracy"]
    assert scored["eval_accuracy"] == pytest.approx(sum(both) / 2) and min(both) < max(both)
    losses = [line for line in lines_of(tmp_path / "alone") if "batch_loss" in line]
    assert [line["members_batch_loss"][0] for line in lines if "batch_loss" in line] == [
        line["batch_loss"] for line in losses
    ]
    bands = [band.get_paths()[0].vertices for band in runs.figures.curves(lines).axes[1].collections]
    low, high = (each([band[:, 1] for band in bands[1:]]) for each in (np.min, np.max))  # of the evaluation
    accuracies = [value for line in lines for value in line.get("members_eval_accuracy", [])]
    assert (low, high) == (min(accuracies), max(accuracies))
    capsys.readouterr()
    digits.evaluate(tmp_path / "whole", "best", as_json=True)
    printed = capsys.readouterr()
    best = int(np.argmax(both))
    assert f"the best of 2 members is member {best} (seed {best}): {max(both):.4f}" in printed.err
    assert json.loads(printed.out)["accuracy"] == lines[-1]["test_accuracy"]


def test_the_search_of_the_page_prunes_a_trial_through_its_stopping(few_test_images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = [b.code for b in blocks_of((ROOT / "docs" / "sweeps.md").read_text()) if "optuna" in b.code]
    first = [f"study.enqueue_trial({{'learning_rate': {rate}}})\n" for rate in (5e-3, 1e-4)]
    begun = "".join([*first, "study.opt"])
    for told, tiny in {
        "steps=3_000": "steps=30, batch_size=8",
        "n_trials=20": "n_trials=2",
        "study.opt": begun,
    }.items():
        assert told in code
        code = code.replace(told, tiny)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optuna's own
        exec(code.replace("n_startup_trials=4", "n_startup_trials=1"), found := {})
    whole, pruned = found["study"].trials
    assert [whole.state.name, pruned.state.name] == ["COMPLETE", "PRUNED"]
    for trial, steps in ((whole, [10, 20, 30]), (pruned, [10])):
        run = runs.Run.read(f"runs/search/{trial.number}")
        scores = {line["step"]: line["eval_accuracy"] for line in run.history if "eval_accuracy" in line}
        assert list(scores) == steps and run.state == "finished"
        assert list(trial.intermediate_values.values()) == pytest.approx(list(scores.values()))
    assert found["study"].best_value == max(whole.intermediate_values.values())


def test_a_signal_ends_the_run_after_its_step(tmp_path, monkeypatch):
    def interrupted(loop):
        for tick in loop:
            if tick.step == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            yield tick

    monkeypatch.setattr(fb, "progress", interrupted)
    with pytest.raises(Interrupted) as caught:
        mnist_cnn.train(mnist_cnn.MnistCNN(out=tmp_path, steps=50))
    command = f"fourbeat train mnist-cnn --resume {tmp_path}"
    assert str(caught.value) == f"stopped at step 5, saved; to go on:\n{command}"
    assert caught.value.signal == signal.SIGTERM
