"""Scores of predictions, the same for a network and for what it is compared with; and `fourbeat evaluate`."""

from pathlib import Path
from typing import Any

import numpy as np

import fourbeat as fb
from fourbeat.recipes.columns.layout import Target
from fourbeat.recipes.columns.preparing import prepare
from fourbeat.recipes.probabilities import softmax
from fourbeat.recipes.telling import print_json, say_run
from fourbeat.recipes.trained import Step, load
from fourbeat.runs.printing import say, show_table

BATCH_SIZE = 1_024  # of rows that are predicted; always the same, so that other rows change no bit
_LOWER_IS_BETTER = ("log_loss", "rmse", "mae")
COMPARED = {"test": "network", "boosting": "gradient boosting", "constant": ""}


def scores_of(labels: np.ndarray, predicted: np.ndarray, target: Target) -> dict[str, float]:
    """Accuracy, balanced accuracy, log loss and, of two classes, AUROC; or RMSE, MAE and R2.

    A score that these rows do not have is left out: AUROC where they have one class, R2 of one row.

    Args:
      labels: of shape (rows,), classes or numbers.
      predicted: probabilities of shape (rows, classes), or numbers of shape (rows,).
      target: which they are.

    >>> labels, predicted = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0])
    >>> {name: round(score, 4) for name, score in scores_of(labels, predicted, Target("y", ())).items()}
    {'rmse': 1.1547, 'mae': 0.6667, 'r2': -1.0}
    """
    from sklearn import metrics

    if not target.classes:
        labels, predicted = labels.astype(np.float64), predicted.astype(np.float64)
        scores = {
            "rmse": np.sqrt(np.mean((predicted - labels) ** 2)),
            "mae": np.mean(np.abs(predicted - labels)),
        }
        if len(np.unique(labels)) > 1:
            scores["r2"] = metrics.r2_score(labels, predicted)
        return {name: float(score) for name, score in scores.items()}
    places = range(len(target.classes))
    chosen = predicted.argmax(axis=1)
    recalls = [np.mean(chosen[labels == each] == each) for each in np.unique(labels)]
    likely = predicted.astype(np.float64)
    likely /= likely.sum(axis=1, keepdims=True)
    scores = {
        "accuracy": np.mean(chosen == labels),
        "balanced_accuracy": np.mean(recalls),
        "log_loss": metrics.log_loss(labels, likely, labels=list(places)),
    }
    if len(places) == 2 and len(np.unique(labels)) == 2:
        scores["auroc"] = metrics.roc_auc_score(labels, likely[:, 1])
    return {name: float(score) for name, score in scores.items()}


def confusion(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """How many rows of each class, by row, were taken for each class, by column.

    >>> confusion(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])).tolist()
    [[1, 0], [1, 1]]
    """
    num_classes = predicted.shape[1]
    pair = labels * num_classes + predicted.argmax(axis=1)
    return np.bincount(pair, minlength=num_classes**2).reshape(num_classes, num_classes)


def predicted(beats: fb.Beats, state: fb.TrainState, data: fb.data.Arrays, target: Target) -> np.ndarray:
    """Probabilities of shape (rows, classes), or numbers of shape (rows,)."""
    outputs = fb.predictor(beats)(state, data.batches(BATCH_SIZE))
    return softmax(outputs).astype(outputs.dtype) if target.classes else outputs


def show_compared(scores: dict[str, dict[str, float]], target: Target, num_rows: int) -> None:
    """Prints scores side by side, and says where the network is worse than gradient boosting.

    Args:
      scores: by what predicted, as `COMPARED` names them.
      target: what was predicted.
      num_rows: of the rows that were scored.
    """
    from rich.table import Table

    names = COMPARED | {"constant": "the commonest class" if target.classes else "the mean"}
    own = scores["test"]
    table = Table(f"{num_rows:,} test rows", box=None, pad_edge=False, padding=(0, 1))
    for name in own:
        table.add_column(name.replace("_", " "), justify="right")
    for part, each in scores.items():
        table.add_row(names[part], *(shown(each[name]) for name in own))
    show_table(table)
    for part in [part for part in ("constant", "boosting") if part in scores]:
        worse = [name for name in own if is_better(name, scores[part][name], own[name])]
        if worse:
            said = ", ".join(
                f"{name.replace('_', ' ')} {shown(own[name])} against {shown(scores[part][name])}"
                for name in worse
            )
            say(f"The network is worse than {names[part]}: {said}.")
    if "boosting" in scores and not any(is_better(n, scores["boosting"][n], own[n]) for n in own):
        say("The network is no worse than gradient boosting in any of these scores.")


def shown(score: float) -> str:
    """A score in figures.

    >>> shown(0.91), shown(41868.6)
    ('0.9100', '41,869')
    """
    return f"{score:.4f}" if abs(score) < 1000 else f"{score:,.0f}"


def is_better(name: str, one: float, other: float) -> bool:
    """Whether the first of two scores of this name is better, as far as is shown."""
    if shown(one) == shown(other):
        return False
    return one < other if name in _LOWER_IS_BETTER else one > other


def evaluate(run: Path, step: Step, *, as_json: bool) -> None:
    """Prints the scores of a run on its test rows, and those of what it is compared with.

    Args:
      run: its directory.
      step: which checkpoint.
      as_json: one JSON object instead of a table.
    """
    trained = load(run, step, mode="min")
    prepared = prepare(trained.config)
    prepared.layout.keep(run, is_new=False)
    target, rows = prepared.layout.target, prepared.parts.test
    given = predicted(trained.beats, trained.state, prepared.arrays(rows), target)
    scores = {"test": scores_of(prepared.labels[rows], given, target)} | baselines_of(run)
    if as_json:
        others = {name: each for name, each in scores.items() if name != "test"}
        print_json(trained, examples=len(rows), **scores["test"], **others)
        return
    say_run(trained, f"{len(rows):,} test rows")
    show_compared(scores, target, len(rows))


def baselines_of(run: Path) -> dict[str, dict[str, float]]:
    """What the run has logged of what it is compared with; nothing before it is finished."""
    from fourbeat.runs import Run

    found: dict[str, dict[str, Any]] = {}
    for line in Run.read(run).history:
        for part in ("boosting", "constant"):
            scores = {n.removeprefix(f"{part}_"): v for n, v in line.items() if n.startswith(f"{part}_")}
            found |= {part: scores} if scores else {}
    return found
