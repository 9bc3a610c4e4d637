"""`fourbeat compare`: runs beside each other in the terminal. No JAX is needed."""

import os
import shutil
from collections.abc import Sequence
from typing import Any

from fourbeat.runs.flags import as_flag
from fourbeat.runs.logged_curves import curves_of
from fourbeat.runs.printing import printable, show_table
from fourbeat.runs.run_on_disk import Run
from fourbeat.runs.scores import is_number
from fourbeat.runs.text_curve import text_curve

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def show_comparison(names: Sequence[str | os.PathLike[str]]) -> None:
    """Prints runs beside each other: where they lie, flags that differ, best and last scores, a small curve.

    The curve is as wide as the terminal; in a pipe the text is plain and the paths are whole.

    Args:
      names: of two runs or more, as `Run.read` takes them.

    Raises:
      ValueError: there is no such run, or not 2 to 26 of them.
    """
    if not 2 <= len(names) <= len(_LETTERS):
        raise ValueError(f"compare takes 2 to {len(_LETTERS)} runs, and {len(names)} are named.")
    runs = dict(zip(_LETTERS, map(Run.read, names), strict=False))
    for letter, run in runs.items():
        print(f"{letter}  {printable(run.name)}  {run.record.recipe}, {run.state}, step {run.step}")
        for problem in run.problems:
            print(f"   {printable(problem)}")
    _show_rows("flags that differ", runs, _differing(runs))
    _show_rows("best, and last", runs, _scores(runs))
    for name in _drawn(runs):
        curves = {letter: curves_of(run.history).get(name) for letter, run in runs.items()}
        print()
        print(f"{name.replace('_', ' ')}, over the steps")
        width = shutil.get_terminal_size().columns
        for line in text_curve({letter: curve for letter, curve in curves.items() if curve}, width):
            print(line)


def _differing(runs: dict[str, Run]) -> dict[str, list[str]]:
    """The flags that are not the same in all runs, with their values."""
    names = dict.fromkeys(name for run in runs.values() for name in run.record.flags)
    rows = {as_flag(n): [_flag(run, n) for run in runs.values()] for n in names}
    recipes = {"recipe": [run.record.recipe for run in runs.values()]}
    return {name: cells for name, cells in (recipes | rows).items() if len(set(cells)) > 1}


def _flag(run: Run, name: str) -> str:
    if name not in run.record.flags:
        return "-"
    value = run.record.flags[name]
    return "none" if value is None else value if isinstance(value, str) else repr(value)


def _scores(runs: dict[str, Run]) -> dict[str, list[str]]:
    """The best of each score with its step, and the last where that is another one."""
    bests = [run.best for run in runs.values()]
    rows: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for best in bests for name in best):
        title = name.replace("_", " ")
        rows[title] = [_score(best.get(name)) for best in bests]
        lasts = [run.last.get(name) for run in runs.values()]
        if any(best.get(name, {}).get("score") != last for best, last in zip(bests, lasts, strict=True)):
            rows[f"{title}, last"] = ["-" if last is None else f"{last:.4f}" for last in lasts]
    return rows


def _score(best: dict[str, Any] | None) -> str:
    return "-" if best is None else f"{best['score']:.4f} at {best['step']}"


def _show_rows(title: str, runs: dict[str, Run], rows: dict[str, list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    print()
    if not rows:
        print(f"{title}: none")
        return
    table = Table(title, *runs, box=None, pad_edge=False)
    for name, cells in rows.items():
        table.add_row(*(Text(printable(cell)) for cell in (name, *cells)))
    show_table(table)


def _drawn(runs: dict[str, Run]) -> list[str]:
    """The curve to draw: of a loss that all runs logged often, or else of what most of them logged most."""
    counts: dict[str, list[int]] = {}
    for run in runs.values():
        for name, curve in curves_of(run.history).items():
            counts.setdefault(name, []).append(sum(map(is_number, curve["values"])))
    drawable = {name: lengths for name, lengths in counts.items() if max(lengths) > 1}
    if not drawable:
        return []
    return [max(drawable, key=lambda name: (len(drawable[name]), name.endswith("loss"), min(drawable[name])))]
