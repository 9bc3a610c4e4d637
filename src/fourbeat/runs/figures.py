"""The plots of a run. matplotlib is imported when one is drawn, and no window is ever opened."""

from typing import Any

import numpy as np


def curves(history: list[dict]) -> Any:
    """Loss, accuracy and perplexity over steps, training beside evaluation.

    Args:
      history: lines as `RunDirectory.history` gives them.

    Returns:
      A matplotlib figure with one panel for each of these that the history holds.
    """
    known = ("loss", "accuracy", "perplexity")
    names = [n for n in known if any(f"{g}_{n}" in h for h in history for g in ("train", "eval"))]
    figure = _figure(figsize=(4.8 * max(len(names), 1), 3.6))
    for place, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), place + 1)
        for group in ("train", "eval", "test"):
            points = [
                (line["step"], value if isinstance(value := line[f"{group}_{name}"], int | float) else np.nan)
                for line in history
                if f"{group}_{name}" in line
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=group)
        axes.set(xlabel="step", ylabel=name, title=name.capitalize())
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    return figure


def confusion_matrix(matrix: np.ndarray) -> Any:
    """Counts of true (rows) against predicted (columns) classes; colours show each row's share.

    Args:
      matrix: (classes, classes) of counts.
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
    figure.colorbar(image, ax=axes, label="share of the true class")
    figure.tight_layout()
    return figure


def fitted_line(x: np.ndarray, y: np.ndarray, weight: float, bias: float) -> Any:
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
