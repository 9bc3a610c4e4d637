"""You write the training loop; fourbeat makes every hard part of it correct, explicit and fast."""

from typing import TYPE_CHECKING

from fourbeat._lazy_names import lazy_names

if TYPE_CHECKING:
    from fourbeat import (
        beats,
        checkpoints,
        compiling,
        control,
        data,
        distributed,
        evaluating,
        functional,
        guard,
        loggers,
        looping,
        metrics,
        models,
        precision,
        profiling,
        purity,
        replicating,
        runs,
        sanity,
        shard,
        testing,
        tuning,
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
    from fourbeat.replicating import replicas
    from fourbeat.runs import progress
    from fourbeat.shard import mesh

_PACKAGES = (
    "data", "distributed", "guard", "loggers", "metrics", "precision", "profiling", "purity", "sanity",
    "shard", "tuning",
)  # fmt: skip
_NAMES = {
    "beats": ("Beats", "TrainState", "four_beats"),
    "checkpoints": ("CheckpointError", "Checkpoints"),
    "compiling": ("Block", "compile"),
    "control": ("EarlyStopping", "ReduceOnPlateau"),
    "evaluating": ("evaluator", "predictor"),
    "functional": ("as_step", "functionalize"),
    "looping": ("Tick", "at", "every", "loop", "stop_signal"),
    "models": ("merge", "split"),
    "replicating": ("replicas",),
    "runs": ("progress",),
    "shard": ("mesh",),
}

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    *_PACKAGES,
    *(name for names in _NAMES.values() for name in names),
]

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
