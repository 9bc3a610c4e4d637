"""A table of the runs below a directory. A run that cannot be read is named, and hides no other."""

import time
from pathlib import Path
from typing import Any, Literal

from fourbeat.loggers import strict_json
from fourbeat.runs.copies import shown
from fourbeat.runs.naming import runs_below
from fourbeat.runs.printing import printable, show_table
from fourbeat.runs.records import read_record
from fourbeat.runs.run_on_disk import Run

Order = Literal["time", "score"]


def show_runs(root: Path, *, as_json: bool = False, sort: Order = "time") -> None:
    """Prints a line for each run: recipe, where, steps, best score, state, age.

    Args:
      root: the directory to look below.
      sort: by "time" those that were begun last come first, by "score" those with the best one.
      as_json: one JSON object with a list of runs, instead of a table.

    Raises:
      ValueError: the root is no directory.
    """
    if root.exists() and not root.is_dir():
        raise ValueError(f"{root} is no directory. Name one that runs lie below.")
    found = _sorted([_described(path) for path in runs_below(root)], sort)
    if as_json:
        print(strict_json.dumps({"runs": found}))
    elif found:
        _show(found)
    else:
        print(f"no runs below {printable(shown(root))}")


def _described(path: Path) -> dict[str, Any]:
    """What the list says of a run, also of a damaged one."""
    said: dict[str, Any] = {
        "recipe": None, "run": shown(path), "step": None, "best": None, "state": "unreadable",
        "begun_s": 0.0, "age_s": None, "problems": [],
    }  # fmt: skip
    try:
        said["age_s"] = round(time.time() - _touched_s(path), 1)
        said["begun_s"] = time.time() - said["age_s"]
        if read_record(path) is None:
            raise ValueError("config.json is a link to nothing.")
        run = Run.read(path)
        said |= {"recipe": run.record.recipe, "begun_s": run.record.begun_s, "step": run.step}
        said |= {"best": _best(run), "problems": run.problems}
        said["state"] = f"{run.state}, damaged" if run.problems else run.state
    except (OSError, ValueError) as error:
        said["problems"] = [*said["problems"], str(error)]
    return said


def _touched_s(path: Path) -> float:
    """When something in a run was last written, in seconds since 1970."""
    return max([file.lstat().st_mtime for file in path.iterdir()])


def _best(run: Run) -> dict[str, Any] | None:
    """The best of the run's own score; None where it has none."""
    best = run.best.get(run.record.score or "")
    if best is None:
        return None
    return {**best, "name": str(run.record.score).removeprefix("eval_")}


def _sorted(found: list[dict[str, Any]], by: Order) -> list[dict[str, Any]]:
    """The runs in order. Scores of one name stand together; a run without one comes last."""
    newest_first = sorted(found, key=lambda run: run["begun_s"], reverse=True)
    if by == "time":
        return newest_first

    def place(run: dict[str, Any]) -> tuple[Any, ...]:
        best = run["best"]
        if best is None:
            return (True,)
        return False, best["name"], best["score"] if best["mode"] == "min" else -best["score"]

    return sorted(newest_first, key=place)


def _show(found: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("recipe", "run", "steps", "best score", "state", "age", box=None, pad_edge=False)
    for run in found:
        best = "" if run["best"] is None else f"{run['best']['name']} {run['best']['score']:.4f}"
        step = "" if run["step"] is None else str(run["step"])
        cells = (run["recipe"] or "?", run["run"], step, best, run["state"], _age(run["age_s"]))
        table.add_row(*(Text(printable(cell)) for cell in cells))
    show_table(table)
    for run in found:
        for problem in run["problems"]:
            print(f"{printable(run['run'])}: {printable(problem)}")


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
