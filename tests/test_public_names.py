"""The public surface is frozen here: a change of it is a decision."""

import subprocess
import sys

import fourbeat as fb

NAMES = {
    "fourbeat": {
        "Beats", "Block", "CheckpointError", "Checkpoints", "EarlyStopping", "ReduceOnPlateau", "Tick",
        "TrainState", "at", "compile", "data",
        "evaluator", "every", "four_beats", "guard", "loop", "merge", "metrics", "precision", "progress", "purity",
        "split", "stop_signal",
    },
    "data": {"Arrays", "Batch", "Batches", "idx", "mnist"},
    "guard": {"BadStepError", "GuardState", "Skip", "Spike", "check", "skip"},
    "precision": {"LossScale", "Policy", "explain"},
    "purity": {"Finding", "ImpureError", "Kind", "Level", "Report", "StaleReadError", "check", "jit"},
    "metrics": {
        "Accuracy", "Collection", "ConfusionMatrix", "F1", "Mean", "MeanSquaredError", "Metric", "Perplexity",
        "Precision", "Recall", "TopKAccuracy",
    },
}  # fmt: skip


def test_the_public_names_are_these():
    assert set(fb.__all__) == NAMES["fourbeat"]
    for package in NAMES.keys() - {"fourbeat"}:
        module = getattr(fb, package)
        assert set(module.__all__) == NAMES[package]
        assert all(hasattr(module, name) for name in module.__all__)
    assert all(hasattr(fb, name) for name in fb.__all__)


def test_every_public_name_has_a_docstring_with_an_example_or_fields():
    for name in fb.__all__:
        assert getattr(fb, name).__doc__, name


def test_importing_it_loads_nothing_heavy():
    heavy = ["orbax", "matplotlib", "tyro", "rich.progress", "sklearn", "grain", "tensorflow", "torch"]
    code = (
        "import jax, flax.nnx, optax, sys; before = set(sys.modules); import fourbeat; "
        f"print([name for name in {heavy} if name in sys.modules and name not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
