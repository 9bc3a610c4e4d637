"""Which logged values are scores, which way is better, and their best."""

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from fourbeat.runs.records import Record
from fourbeat.types import Object

Mode = str  # "min" or "max"
Best = dict[str, dict[str, Any]]

_BATCH = "batch"  # a batch's own values are noise, and no score
_GROUPS = (_BATCH, "train", "eval", "valid", "validation", "val", "dev", "test", "boosting", "constant")
_LOWER = {"loss", "error", "perplexity", "mse", "rmse", "mae", "nll", "ece", "divergence"}
_HIGHER = {"accuracy", "precision", "recall", "f1", "fbeta", "auroc", "auc", "r2", "iou", "bleu"}


def mode_of(name: str, record: Record) -> Mode | None:
    """Whether a lower or a higher value is better; None where that is not known.

    A run says it of its own score; of other values the words of the name do.

    Args:
      name: of a logged value, such as `eval_loss`.
      record: of its run.

    >>> run = Record("a-recipe", {}, 0.0, None, "max")
    >>> mode_of("eval_loss", run), mode_of("test_accuracy", run), mode_of("batch_loss", run)
    ('min', 'max', None)
    """
    if name == record.score:
        return "min" if record.mode == "min" else "max"
    words = set(name.split("_"))
    if name.startswith(_BATCH) or (words & _LOWER and words & _HIGHER):
        return None
    return "min" if words & _LOWER else "max" if words & _HIGHER else None


def group_of(name: str) -> tuple[str, str]:
    """The group of a logged value, and its name in it; values of one name are drawn together.

    >>> group_of("eval_loss"), group_of("grad_norm")
    (('eval', 'loss'), ('', 'grad_norm'))
    """
    group, _, label = name.partition("_")
    return (group, label) if group in _GROUPS and label else ("", name)


def add_to_best(best: Best, line: Mapping[str, Any], record: Record) -> None:
    """Puts the scores of a line that are better than those before in their place.

    >>> best, run = {}, Record("a-recipe", {}, 0.0, None, "max")
    >>> for step, loss in ((1, 0.5), (2, 0.25), (3, 0.75)):
    ...     add_to_best(best, {"step": step, "eval_loss": loss}, run)
    >>> best
    {'eval_loss': {'score': 0.25, 'step': 2, 'mode': 'min'}}
    """
    for name, value in line.items():
        mode = mode_of(name, record) if name != "step" and is_number(value) else None
        if mode is None:
            continue
        is_better = name not in best or (
            value < best[name]["score"] if mode == "min" else value > best[name]["score"]
        )
        if is_better:
            best[name] = {"score": float(value), "step": line["step"], "mode": mode}


def best_of(history: Iterable[Mapping[str, Any]], record: Record) -> Best:
    """The best of each score of a history: `{"eval_loss": {"score": 0.25, "step": 200, "mode": "min"}}`."""
    best: Best = {}
    for line in history:
        add_to_best(best, line, record)
    return best


def last_of(history: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The last number of each logged value; a nan where it was not finite."""
    last: dict[str, float] = {}
    for line in history:
        last |= {
            name: math.nan if value is None else float(value)
            for name, value in line.items()
            if name != "step" and (value is None or is_number(value))
        }
    return last


def is_number(value: Object) -> TypeGuard[float]:
    """Whether a value is one finite number."""
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and abs(value) <= sys.float_info.max  # an int may be larger than every float
