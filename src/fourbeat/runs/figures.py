"""The plots of a run. matplotlib is imported when one is drawn, and no window is ever opened."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fourbeat.runs.logged_curves import bands_of, curves_of
from fourbeat.runs.scores import group_of
from fourbeat.types import Figure

_LONGEST_NAME = 16  # letters of a class beside a confusion matrix
_FEW = 60  # points of a curve, up to which each has a marker


def curves(history: list[dict]) -> Figure:
    """A panel for each value of the history over the steps, its groups beside each other.

    Args:
      history: lines as `RunDirectory.history` gives them. Values of one name are drawn together where the
        name begins with a group: `train_loss` and `eval_loss`.

    Returns:
      A matplotlib figure. A value has a panel where it is a number somewhere. Where the history has all
      members of a value, as `spread` gives them, a band from the lowest to the highest lies behind its curve.
    """
    panels: dict[str, dict[str, str]] = {}  # the names of the values, by label and group
    logged, bands = curves_of(history), bands_of(history)
    for name in logged:
        group, label = group_of(name)
        panels.setdefault(label, {})[group] = name
    groups_of_all = dict.fromkeys(group for groups in panels.values() for group in groups)
    colours = {group: f"C{place}" for place, group in enumerate(groups_of_all)}  # the same in every panel
    figure = _figure(figsize=(4.8 * max(len(panels), 1), 3.6))
    for place, (label, groups) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for group, name in groups.items():
            steps, values = logged[name]["steps"], [_or_nan(value) for value in logged[name]["values"]]
            few = {"marker": "o", "markersize": 4} if len(steps) <= _FEW else {}
            # a batch's own loss is noisy: it lies behind the others
            behind = {"alpha": 0.4, "zorder": 1, "linewidth": 1.0} if group == "batch" else {}
            axes.plot(steps, values, label=group or label, color=colours[group], **few, **behind)
            if band := bands.get(name):
                ends = band["steps"], band["low"], band["high"]
                axes.fill_between(*ends, color=colours[group], alpha=0.2, linewidth=0, zorder=0.5)
        axes.set(xlabel="step", ylabel=label, title=label.replace("_", " ").capitalize())
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    return figure


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def confusion_matrix(matrix: np.ndarray, classes: Sequence[str] | None = None) -> Figure:
    """Counts of true (rows) against predicted (columns) classes; colours show each row's share.

    Args:
      matrix: (classes, classes) of counts.
      classes: their names; by default their numbers.
    """
    matrix = np.asarray(matrix)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = _figure(figsize=(6.4, 5.6))
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=colour, fontsize=8)
    ticks = range(len(matrix))
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix", xticks=ticks, yticks=ticks)
    if classes is not None:
        axes.set_xticks(ticks, [_short(name) for name in classes], rotation=90)
        axes.set_yticks(ticks, [_short(name) for name in classes])
    figure.colorbar(image, ax=axes, label="share of the true class")
    figure.tight_layout()
    return figure


def _short(name: str) -> str:
    shown = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return shown.replace("$", r"\$")  # to matplotlib a dollar begins a formula


def fitted_line(x: np.ndarray, y: np.ndarray, weight: float, bias: float) -> Figure:
    """Points and the line fitted to them."""
    figure = _figure(figsize=(5.6, 4.0))
    axes = figure.add_subplot()
    axes.scatter(x, y, s=12, alpha=0.7, label="points")
    ends = np.array([np.min(x), np.max(x)])
    sign = "-" if bias < 0 else "+"
    label = f"fit: {weight:.3f} x {sign} {abs(bias):.3f}"
    axes.plot(ends, weight * ends + bias, color="tab:orange", label=label)
    axes.set(xlabel="x", ylabel="y", title="Linear regression")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    return figure


def _figure(figsize: tuple[float, float]) -> Any:
    from matplotlib.figure import Figure  # the plain class: no pyplot, no window, no global state

    return Figure(figsize=figsize)
