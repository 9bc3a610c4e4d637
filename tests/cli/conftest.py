"""A run of the main job with two checkpoints, the first of which is the best."""

import pytest

import fourbeat as fb
from fourbeat import runs
from fourbeat.recipes import mnist_cnn


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """`(path, states)`: the states of its steps 2 (the best) and 4 (the latest)."""
    config = mnist_cnn.MnistCNN(
        out=tmp_path_factory.mktemp("runs") / "run", optimizer="momentum", clip_norm=1.0
    )
    beats = mnist_cnn.make_beats(config)
    state, step = mnist_cnn.make_state(config, beats), fb.compile(beats.train_step)
    states = {}
    run = runs.RunDirectory.open("mnist-cnn", config)
    with run, fb.Checkpoints(run.path / "checkpoints", keep_last=2, mode="max") as checkpoints:
        for tick in fb.loop(mnist_cnn.make_batches(config)[0], until=fb.at(steps=4)):
            state, _ = step(state, tick.batch)
            if tick.step % 2 == 0:
                checkpoints.save(tick.step, {"state": state}, score=1 / tick.step)
                states[tick.step] = state.replace()
    return run.path, states


@pytest.fixture
def few_test_images(monkeypatch):
    """The test set cut down to 300 images, and their labels."""
    _, test = fb.data.mnist()
    monkeypatch.setattr(mnist_cnn, "make_batches", lambda config: (test[:300].batches(32),))
    return test.columns["image"][:300], test.columns["label"][:300]
