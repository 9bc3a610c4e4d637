"""The chart of the page: the main job's sides, the price of calling a step, and its growth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.page import figure_of

OURS, OTHERS = "#1f5fbf", "#9aa5b1"


def save(results: Mapping[str, Any], path: Path) -> bool:
    """Draws what the results hold into an SVG file; returns whether there was anything to draw."""
    import matplotlib

    works = results["works"]
    panels = [(name, label) for name, label in (("mnist-cnn", "ms"), ("mlp", "us")) if name in works]
    growth = growth_points(works)
    if not panels and not growth:
        return False
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "fourbeat"
    from matplotlib.figure import Figure

    count = len(panels) + bool(growth)
    figure = Figure(figsize=(9, 3.6 * count), layout="constrained")
    figure.get_layout_engine().set(hspace=0.06)
    axes = figure.subplots(count, 1, squeeze=False)[:, 0]
    for axis, (name, unit) in zip(axes, panels, strict=False):
        _bars(axis, works[name], unit)
    if growth:
        _lines(axes[-1], growth)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    return True


def growth_points(works: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Microseconds a step by number of leaves, for each kind of side of the work named growth."""
    points: dict[str, list[tuple[int, float]]] = {}
    for name, side in works.get("growth", {"sides": {}})["sides"].items():
        if "median_s" in side:
            kind = name.partition(",")[0]
            points.setdefault(kind, []).append((side["facts"]["leaves"], 1e6 * side["median_s"]))
    return {name: sorted(of_side) for name, of_side in points.items()}


def _bars(axis: Any, work: Mapping[str, Any], unit: str) -> None:
    scale = work["scale"]
    sides = {name: side for name, side in work["sides"].items() if "median_s" in side}
    names = sorted(sides, key=lambda name: -sides[name]["median_s"])
    medians = [scale * sides[name]["median_s"] for name in names]
    spreads = [[scale * value for value in sides[name]["spread_s"]] for name in names]
    lows = [median - spread[0] for median, spread in zip(medians, spreads, strict=True)]
    highs = [spread[1] - median for median, spread in zip(medians, spreads, strict=True)]
    colours = [OURS if name.startswith("fourbeat") else OTHERS for name in names]
    axis.barh(names, medians, color=colours, xerr=[lows, highs], error_kw={"ecolor": "#444", "capsize": 2})
    if max(medians) > 30 * min(medians):
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
    for place, median in enumerate(medians):
        axis.annotate(
            figure_of(median), (spreads[place][1], place), (5, 0), textcoords="offset points", va="center"
        )
    axis.margins(x=0.12)
    axis.set_xlabel(f"{unit} a {work['per']}: median, fastest and slowest round")
    axis.set_title(work["title"], loc="left", pad=12)
    axis.spines[["top", "right"]].set_visible(False)


def _lines(axis: Any, growth: Mapping[str, list[tuple[int, float]]]) -> None:
    axis.set_prop_cycle(color=["#3f4a56", "#b0643c", "#7f9c55", "#8d6bb0"])
    for name, points in growth.items():
        leaves, microseconds = zip(*points, strict=True)
        ours = name.startswith("fourbeat")
        colour = {"color": OURS, "linewidth": 3, "zorder": 3} if ours else {"linewidth": 1.5}
        axis.plot(leaves, microseconds, marker="o", label=name, **colour)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_xlabel("leaves of the state")
    axis.set_ylabel("us a step")
    axis.set_title("A step of almost no work: how its price grows", loc="left", pad=12)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
