"""The public surface is frozen here: a change of it is a decision."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import fourbeat as fb

NAMES = {
    "fourbeat": {
        "Beats", "Block", "CheckpointError", "Checkpoints", "EarlyStopping", "ReduceOnPlateau", "Tick",
        "TrainState", "as_step", "at", "compile", "data", "distributed", "evaluator", "every", "four_beats",
        "functionalize", "guard", "loggers", "loop", "merge", "mesh", "metrics", "precision", "predictor",
        "profiling", "progress", "purity", "replicas", "sanity", "shard", "split", "stop_signal", "tuning",
    },
    "data": {
        "Arrays", "Batch", "Batches", "ExampleError", "Examples", "Folder", "Order", "StalledSourceWarning",
        "StepOrder", "Stream", "UnevenPassWarning", "UnlikeError", "balanced", "by_length", "folder",
        "global_batches", "idx", "local_batches", "mix", "mnist", "packed", "pad_to", "padded", "parquet",
        "weighted",
    },
    "distributed": {
        "JoinError", "PeerError", "any_of", "at_step", "barrier", "broadcast", "check_joined", "failed",
        "gather", "initialize", "num_processes", "process_index", "speaks",
    },
    "guard": {
        "BadStepError", "GuardState", "Location", "Report", "Skip", "Spike", "check", "locate", "skip",
    },
    "loggers": {"JsonLines", "Logger", "LoggerWarning", "Several", "TensorBoard"},
    "precision": {"LossScale", "Policy", "PrecisionWarning", "explain"},
    "profiling": {"UntracedWarning", "trace"},
    "tuning": {"RateRange", "lr_range_test"},
    "purity": {"Finding", "ImpureError", "Kind", "Level", "Report", "StaleReadError", "check", "jit"},
    "shard": {
        "Memory", "MemoryLimitError", "Rules", "WholeArrayWarning", "WholeBatchWarning", "by_path", "fsdp",
        "memory", "mesh", "metadata", "place", "replicated", "table",
    },
    "metrics": {
        "AUROC", "Accuracy", "AveragePrecision", "CapacityWarning", "Collection", "ConfusionMatrix",
        "CrossedExamplesWarning", "ECE", "F1", "FBeta", "Last", "Max", "Mean", "MeanAbsoluteError",
        "MeanSquaredError", "Metric", "Min", "NothingSeenWarning", "Pearson", "Perplexity", "Precision",
        "PrecisionAtK", "PrecisionAtThresholds", "R2", "Recall", "RecallAtK", "RecallAtThresholds",
        "Reliability", "Spearman", "Std", "Sum", "TopKAccuracy", "Weighted", "reliability_plot",
    },
}  # fmt: skip


def test_the_public_names_are_these():
    assert set(fb.__all__) == NAMES["fourbeat"]
    for package in NAMES.keys() - {"fourbeat"}:
        module = getattr(fb, package)
        assert set(module.__all__) == NAMES[package]
        assert all(hasattr(module, name) for name in module.__all__)
    assert all(hasattr(fb, name) for name in fb.__all__)


def test_every_public_name_has_an_example_or_fields_and_a_package_one_sentence():
    for name in fb.__all__:
        value = getattr(fb, name)
        if inspect.ismodule(value) or (inspect.isclass(value) and issubclass(value, Exception)):
            assert (value.__doc__ or "").partition("\n")[0].endswith("."), name
        else:
            assert any(part in (inspect.getdoc(value) or "") for part in (">>> ", "Attributes:", "Args:")), (
                name
            )


def test_type_checkers_see_the_same_names_as_a_program():
    tree = ast.parse(Path(fb.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: str(imported.module) for imported in imports for alias in imported.names}
    packages = {name for _, name, _ in pkgutil.iter_modules(fb.__path__)} - {
        "_lazy_names",
        "cli",
        "objects",
        "recipes",
        "stores",
        "trees",
    }
    assert set(seen) == {*fb.__all__, *packages}
    for name, module in seen.items():
        expected = importlib.import_module(f"fourbeat.{name}") if name in packages else None
        assert getattr(fb, name) is (expected or getattr(importlib.import_module(module), name))
    assert set(dir(fb)) >= set(fb.__all__)
    with pytest.raises(AttributeError, match="module 'fourbeat' has no attribute 'fit'"):
        _ = fb.fit


@pytest.mark.parametrize("package", ["data", "distributed", "guard", "metrics", "models", "runs"])
def test_type_checkers_see_the_names_that_a_package_loads_on_use(package):
    module = getattr(fb, package)
    tree = ast.parse(Path(module.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: str(imported.module) for imported in imports for alias in imported.names}
    assert set(seen) == set(module.__all__) <= set(dir(module))
    for name, home in seen.items():
        if home != module.__name__:  # otherwise a module of the package
            assert getattr(module, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match=f"module 'fourbeat.{package}' has no attribute 'fit'"):
        _ = module.fit


def test_importing_every_name_loads_nothing_heavy_and_a_training_only_what_it_uses():
    heavy = ["orbax", "matplotlib", "tyro", "rich.progress", "sklearn", "grain", "tensorflow", "torch"]
    unused = ["data.mixing", "data.packing", "data.parquet_files", "guard.locating", "metrics.accuracy"]
    code = (
        "import jax, flax.nnx, optax, sys; before = set(sys.modules); "
        "import fourbeat as fb; fb.data.Arrays, fb.four_beats, fb.compile, fb.loop; "
        f"print([name for name in {unused} if 'fourbeat.' + name in sys.modules]); "
        "[getattr(fb, name) for name in fb.__all__]; "
        f"print([name for name in {heavy} if name in sys.modules and name not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"
