"""You write the training loop; fourbeat makes every hard part of it correct, explicit and fast."""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fourbeat import (
        beats,
        checkpoints,
        compiling,
        control,
        data,
        evaluating,
        functional,
        guard,
        loggers,
        looping,
        metrics,
        models,
        precision,
        purity,
        runs,
        sanity,
        testing,
        types,
    )
    from fourbeat.beats import Beats, TrainState, four_beats
    from fourbeat.checkpoints import CheckpointError, Checkpoints
    from fourbeat.compiling import Block, compile
    from fourbeat.control import EarlyStopping, ReduceOnPlateau
    from fourbeat.evaluating import evaluator, predictor
    from fourbeat.functional import as_step, functionalize
    from fourbeat.looping import Tick, at, every, loop, stop_signal
    from fourbeat.models import merge, split
    from fourbeat.runs import progress

# Each name is loaded when it is first used, so that `import fourbeat` costs next to nothing; so is each
# package, whether it is listed here or not: what the reference names works in a fresh process.
_PACKAGES = ("data", "guard", "loggers", "metrics", "precision", "purity", "sanity")
_NAMES = {
    "beats": ("Beats", "TrainState", "four_beats"),
    "checkpoints": ("CheckpointError", "Checkpoints"),
    "compiling": ("Block", "compile"),
    "control": ("EarlyStopping", "ReduceOnPlateau"),
    "evaluating": ("evaluator", "predictor"),
    "functional": ("as_step", "functionalize"),
    "looping": ("Tick", "at", "every", "loop", "stop_signal"),
    "models": ("merge", "split"),
    "runs": ("progress",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = [*_PACKAGES, *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"fourbeat.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("_") and importlib.util.find_spec(f"fourbeat.{name}") is not None:
        return importlib.import_module(f"fourbeat.{name}")
    raise AttributeError(f"module 'fourbeat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
