"""Every peer trains the same model from the same values on the same batches: its logits say so."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.gpu.__main__ import BARE, add_shares
from benchmarks.worker import load
from benchmarks.works import mlp, mnist_cnn

NEEDS = {"keras_fit": "keras", "torch_loop": "torch", "lightning_trainer": "lightning"}
STEPS = 3

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


@pytest.fixture(scope="module")
def settings(values_of_mlp, values_of_cnn):
    """Of the two jobs, with their initial values."""
    jobs = {"mlp": (mlp.JOB, values_of_mlp), "mnist-cnn": (mnist_cnn.WORKS[0].job, values_of_cnn)}
    return {
        name: {"threads": 2, "job": {**job, "values": values, "num_test": 64}}
        for name, (job, values) in jobs.items()
    }


def trained(side, settings, **changes):
    module = side.factory.partition(":")[0].rpartition(".")[2]
    if module in NEEDS:
        pytest.importorskip(NEEDS[module])
    settings = {**settings, "job": {**settings["job"], **changes}}
    made = load(side.factory)(settings, **side.options)
    getattr(made, "learn", made.run)(STEPS)
    return made


def logits(made):
    return np.asarray(made.logits(made.job.test[0][:32]))


@pytest.fixture(scope="module")
def expected(settings):
    """What the plain `jax.jit` loop ends with, and another round of it after that."""
    raw = trained(mlp.SIDES[mlp.RAW], settings["mlp"])
    after_learning = logits(raw)
    raw.run(2)
    return after_learning, logits(raw)


ONE_BATCH = {
    name: side
    for work in mlp.WORKS
    for name, side in work.sides.items()
    if "job" not in side.options and name != mlp.RAW
}


@pytest.mark.parametrize("side", ONE_BATCH.values(), ids=list(ONE_BATCH))
def test_mlp(side, settings, expected):
    made = trained(side, settings["mlp"])
    np.testing.assert_allclose(logits(made), expected[0], atol=2e-4)
    made.run(2)
    np.testing.assert_allclose(logits(made), expected[1], atol=2e-4)
    assert set(made.scores()) == {"loss", "accuracy"}


FUSED = mlp.SIDES["fourbeat, loop and data, 100 steps a call"]
CNN_SIDES = {
    name: side
    for name, side in mnist_cnn.SIDES.items()
    if name.startswith(("Equinox", "Keras fit", "PyTorch")) and "best" not in name
}


@pytest.fixture(scope="module")
def expected_of_cnn(settings):
    return logits(trained(mnist_cnn.SIDES["jax.jit loop over dicts"], settings["mnist-cnn"], batch_size=4))


@pytest.mark.parametrize("side", CNN_SIDES.values(), ids=list(CNN_SIDES))
def test_mnist_cnn(side, settings, expected_of_cnn):
    made = trained(side, settings["mnist-cnn"], batch_size=4)
    np.testing.assert_allclose(logits(made), expected_of_cnn, atol=5e-3)


def test_fused_steps_see_the_shuffled_batches(settings):
    fused = trained(FUSED, settings["mlp"])
    raw = trained(mlp.SIDES[mlp.RAW], settings["mlp"], one_batch=False)
    np.testing.assert_allclose(logits(fused), logits(raw), atol=2e-4)


def test_the_gpu_script_runs_to_its_end_without_a_gpu(tmp_path):
    command = ["benchmarks/gpu.sh", "--tiny", "--rounds", "1", "--sides", "100 steps", "CUDA graphs"]
    environment = {**os.environ, "PYTHON": sys.executable, "JAX_PLATFORMS": "cpu"}
    told = subprocess.run(
        [*command, "--results", str(tmp_path)], check=True, capture_output=True, text=True, env=environment
    ).stdout
    assert told.startswith("on the CPU: there is no GPU, so no figure here is one of a GPU\n")
    kept = json.loads((tmp_path / "no-gpu.json").read_text())
    assert list(kept["works"]) == ["gpu-card", "gpu-mlp-bfloat16-4"]
    sides = kept["works"]["gpu-mlp-bfloat16-4"]["sides"]
    assert len(sides["fourbeat, 100 steps a call"]["seconds"]) == 1
    assert sides["PyTorch CUDA graphs"]["absent"] in ("torch is not installed", "CUDA graphs need a GPU")
    laws = kept["works"]["gpu-card"]["reaches"]
    assert [law["met"] for law in laws] == [True, True]
    assert min(kept["works"]["gpu-card"]["roofline"].values()) > 0


def test_shares_of_the_roofline():
    side = {"seconds": [0.5], "median_s": 0.5, "facts": {"gigaflops": 2.0, "gigabytes": 1.0}}
    add_shares({BARE: side}, {"float32": 8e9, "bytes_per_s": 4e9}, "float32")
    assert side["facts"]["of the matrix rate"] == 0.5
    assert side["facts"]["of the bandwidth"] == 0.5
