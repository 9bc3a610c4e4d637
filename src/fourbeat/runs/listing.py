"""A table of the runs below a directory. A run that cannot be read is named, and hides no other."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from fourbeat.loggers import strict_json
from fourbeat.runs.printing import printable, show_table
from fourbeat.runs.records import Record, read_history, read_json, read_record
from fourbeat.types import Object


def show_runs(root: Path, *, as_json: bool = False) -> None:
    """Prints a line for each run: recipe, where, steps, best score, state, age. Those begun last come first.

    Args:
      root: the directory to look below.
      as_json: one JSON object with a list of runs, instead of a table.

    Raises:
      ValueError: the root is no directory.
    """
    if root.exists() and not root.is_dir():
        raise ValueError(f"{root} is no directory. Name one that runs lie below.")
    found = sorted(map(_described, _runs_below(root)), key=lambda run: run["begun_s"], reverse=True)
    if as_json:
        print(strict_json.dumps({"runs": found}))
    elif found:
        _show(found)
    else:
        print(f"no runs below {printable(root)}")


def _runs_below(root: Path) -> Iterator[Path]:
    """The directories that hold a `config.json`, links to directories included, each once."""
    seen = set()
    for folder, inner, files in os.walk(root, followlinks=True):
        try:
            status = os.stat(folder)
        except OSError:
            inner.clear()
            continue
        if (status.st_dev, status.st_ino) in seen:  # a link to what lies around it
            inner.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        inner.sort()
        if "config.json" in files or "config.json" in inner:
            inner[:] = [name for name in inner if name != "checkpoints"]
            yield Path(folder)


def _described(path: Path) -> dict[str, Any]:
    """What the list says of a run, also of a damaged one."""
    said: dict[str, Any] = {
        "recipe": None, "run": str(path), "step": None, "best": None, "state": "unreadable",
        "begun_s": 0.0, "age_s": None, "problems": [],
    }  # fmt: skip
    try:
        said["age_s"] = round(time.time() - _touched_s(path), 1)
        said["begun_s"] = time.time() - said["age_s"]
        record = read_record(path)
        if record is None:
            raise ValueError("config.json is a link to nothing.")
        said |= {"recipe": record.recipe, "begun_s": record.begun_s}
        history, said["problems"] = read_history(path)
        said["step"] = history[-1]["step"] if history else 0
        said["best"] = _best(history, record)
        said["state"] = _state(read_json(path / "result.json") is not None, history)
        if said["problems"]:
            said["state"] = f"{said['state']}, damaged"
    except (OSError, ValueError) as error:
        said["problems"] = [*said["problems"], str(error)]
    return said


def _state(is_finished: bool, history: list[dict]) -> str:
    if is_finished:
        return "finished"
    is_broken = bool(history) and any(value is None for value in history[-1].values())
    return "not finite" if is_broken else "unfinished"


def _touched_s(path: Path) -> float:
    """When something in a run was last written, in seconds since 1970."""
    return max([file.lstat().st_mtime for file in path.iterdir()])


def _best(history: list[dict], record: Record) -> dict[str, Any] | None:
    """The best score of the history; None where the run has none."""
    if not isinstance(record.score, str):
        return None
    scores = [float(line[record.score]) for line in history if _is_number(line.get(record.score))]
    name = record.score.removeprefix("eval_")
    return {"name": name, "score": (min if record.mode == "min" else max)(scores)} if scores else None


def _is_number(score: Object) -> TypeGuard[float]:
    return isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)


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
