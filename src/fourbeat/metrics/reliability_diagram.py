"""The reliability diagram."""

import numpy as np
from jax.typing import ArrayLike

from fourbeat.types import Figure


def reliability_plot(reliability: ArrayLike) -> Figure:
    """Draws how often the model was right against how sure it was, and where its examples lie.

    A calibrated model lies on the diagonal; an overconfident one lies below it.

    Args:
      reliability: what `Reliability` computes, an array (3, bins).

    Returns:
      A matplotlib figure, for `figure.savefig` or a logger; no window is opened.

    Raises:
      ValueError: the array is of another shape.

    >>> from fourbeat.metrics import Reliability
    >>> seen = Reliability(bins=2).update(logits=np.array([-1.0, 2.0]), labels=np.array([0, 1]))
    >>> len(reliability_plot(seen.compute()).axes)
    2
    """
    from matplotlib.figure import Figure as NewFigure  # the plain class: no pyplot, no window

    table = np.asarray(reliability, np.float64)
    if table.ndim != 2 or table.shape[0] != 3:
        raise ValueError(
            f"reliability_plot draws an array (3, bins), and got one of shape {table.shape}. "
            "Pass what fourbeat.metrics.Reliability computes."
        )
    confidence, right, weight = table
    edges, some = np.linspace(0, 1, table.shape[1] + 1), weight > 0
    share = weight / max(weight.sum(), 1e-30)
    error = np.sum(np.abs(confidence[some] - right[some]) * share[some])
    figure = NewFigure(figsize=(4.8, 5.6))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    above.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="calibrated")
    above.bar(edges[:-1], np.where(some, right, 0), np.diff(edges), align="edge", alpha=0.35, color="C0")
    above.plot(confidence[some], right[some], color="C0", marker="o", markersize=4, label="model")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="fraction right", title=f"Calibration error {error:.4f}")
    above.legend(loc="upper left")
    below.bar(edges[:-1], share, np.diff(edges), align="edge", color="0.6")
    below.set(xlabel="confidence", ylabel="share")
    figure.tight_layout()
    return figure
