"""docs/benchmarks.md, made of the results: what was to be reached, and a table for each work."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
MARKS = {True: "yes", False: "**no**", None: "not measured"}

HEAD = """# Benchmarks

This page measures fourbeat beside what a user would pick instead, on the same work, in one run. One command
makes the page and its figures; with names it makes those parts alone:

```bash
pip install -e '.[bench]'            # where PyTorch's CPU build is wanted: install that first
python -m benchmarks                 # everything
python -m benchmarks mnist-cnn mlp   # some of it; the rest of the page stays
```

**How it is measured.** Each side runs in a process of its own, which computes only while it is asked to. All
sides have the same model, the same initial values, the same batches in the same order, the same dtype and the
same number of cores. A side trains before it is measured, and NumPy computes its loss and accuracy on
held-out data from its logits; a side that does not learn is refused. Then each side runs a round in its turn,
forwards and backwards through the list; the first round is not counted. Compilation is timed apart. Tables
give the median round, the fastest and the slowest, and the ratio to one side: the median of the ratios round
by round, with its 95 % bootstrap interval in brackets.

**What XLA itself costs.** On CPU XLA is often the limit, and two more commands show how much it costs.
`python -m benchmarks.limits` times convolutions, a step that may be skipped and a batch that is gathered, in
plain JAX. `python -m benchmarks.step_instructions` counts the machine instructions of a step.
"""


def page(results: Iterable[Mapping[str, Any]], chart: str | None) -> str:
    """The page as Markdown.

    Args:
      results: of each machine, as `benchmarks.results.read` gives them.
      chart: file name of the chart beside the page, if there is one.
    """
    parts = [HEAD]
    if chart is not None:
        parts.append(f"![Time of a step of each side, and how it grows with the state]({chart})\n")
    for of_machine in results:
        parts += _machine(of_machine)
    return "\n".join(parts)


def table(work: Mapping[str, Any]) -> str:
    """The sides of one work as a Markdown table."""
    unit, scale = work["unit"], work["scale"]
    samples = any("samples" in side for side in work["sides"].values())
    memory = any(side.get("peak_memory_bytes") and work["learn"] for side in work["sides"].values())
    heads = ["side", f"median, {unit} a {work['per']}", "fastest to slowest", f"ratio to {work['against']}"]
    heads += ["median and p99 of single ones"] * samples
    heads += ["first step, s", "peak memory, MB"] * memory
    heads += ["loss, accuracy", "beside the update"] * any(
        side.get("does") for side in work["sides"].values()
    )
    facts = any(side.get("facts") for side in work["sides"].values())
    heads += ["of itself"] * facts
    lines = [_row(heads), _row(["---", *["---:"] * (len(heads) - 1)])]
    for name, side in work["sides"].items():
        why = next((side[key] for key in ("absent", "failed", "refused") if key in side), None)
        if why is not None:
            lines.append(_row([name, why, *[""] * (len(heads) - 2)]))
            continue
        low, high = (scale * value for value in side["spread_s"])
        cells = [name, figure_of(scale * side["median_s"]), f"{figure_of(low)} to {figure_of(high)}"]
        cells.append(_ratio(side.get("ratio")) if name != work["against"] else "1")
        if samples:
            single = side.get("samples", {})
            quantiles = [figure_of(scale * single[key]) for key in ("p50_s", "p99_s") if single]
            cells.append(", ".join(quantiles))
        if memory:
            cells += [f"{side['first_s']:.2f}", f"{side['peak_memory_bytes'] / 1e6:.0f}"]
        if "loss, accuracy" in heads:
            cells += [_scores(side.get("scores", {})), side.get("does", "")]
        if facts:
            told = side.get("facts", {}).items()
            cells.append(", ".join(f"{key.replace('_', ' ')} {fact:g}" for key, fact in told))
        lines.append(_row(cells))
    return "\n".join(lines)


def _machine(results: Mapping[str, Any]) -> list[str]:
    about = results["machine"]
    where = about.get("card") or f"{about['cpu']}, {about['threads']} cores"
    parts = [f"## {where}\n", f"{_about(about)}\n"]
    rows = [
        _row([work["title"], reach["reach"], reach["measured"], MARKS[reach["met"]]])
        for work in results["works"].values()
        for reach in work["reaches"]
    ]
    if rows:
        heads = [_row(["work", "to be reached", "measured", "reached"]), _row(["---"] * 4)]
        parts.append("\n".join([*heads, *rows]) + "\n")
    for work in results["works"].values():
        parts.append(f"### {work['title']}\n\n{table(work)}\n")
        told = " ".join(work["notes"])
        libraries = ", ".join(f"{name} {version}" for name, version in work["versions"].items())
        rounds = f"{_counted(work['rounds'], 'round')} of {_counted(work['amount'], work['per'])}"
        parts.append(f"{told} {rounds}, {work['date']}; {libraries}.\n".lstrip())
    return parts


def _counted(number: int, noun: str) -> str:
    """`3 batches`, `1 pass`."""
    ending = "" if number == 1 else "es" if noun.endswith(("s", "ch")) else "s"
    return f"{number} {noun}{ending}"


def _about(about: Mapping[str, Any]) -> str:
    words = [f"{about['cpu']}, {about['cores']} cores, of which each side may use {about['threads']}"]
    words += [about["card"]] if about.get("card") else []
    words += [f"{about['memory_gib']} GiB", about["system"], f"Python {about['python']}"]
    return "; ".join(words) + "."


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _ratio(ratio: Mapping[str, float] | None) -> str:
    return "" if ratio is None else "{median:.3f} ({low:.3f} to {high:.3f})".format(**ratio)


def _scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{scores[name]:.4f}" for name in ("loss", "accuracy") if name in scores)


def figure_of(value: float) -> str:
    """Three or four digits that mean something.

    >>> [figure_of(x) for x in (0.01234, 1.2345, 12.345, 1234.5)]
    ['0.0123', '1.23', '12.3', '1234']
    """
    return f"{value:.0f}" if value >= 1_000 else f"{value:.3g}"
