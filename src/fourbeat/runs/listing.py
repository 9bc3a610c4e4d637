"""A table of the runs below a directory."""

import json
import time
from pathlib import Path

from fourbeat.runs.run_directory import read_history, read_json


def show_runs(root: Path) -> None:
    """Prints a row a run: recipe, where, steps, best score, finished or not, age. Newest first."""
    from rich.console import Console
    from rich.table import Table

    table = Table("recipe", "run", "steps", "best score", "state", "age", box=None, pad_edge=False)
    found = sorted(root.glob("**/config.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for config in found:
        table.add_row(*_row(config.parent))
    Console().print(table if found else f"no runs below {root}")


def _row(path: Path) -> list[str]:
    try:
        described = read_json(path / "config.json") or {}
        history = read_history(path)
    except (OSError, json.JSONDecodeError) as error:
        return ["?", str(path), "", "", f"unreadable: {error}", ""]
    touched = max(file.stat().st_mtime for file in path.iterdir())
    return [
        str(described.get("recipe", "?")),
        str(path),
        str(history[-1]["step"]) if history else "0",
        _best(history),
        "finished" if (path / "result.json").exists() else "unfinished",
        _age(time.time() - touched),
    ]


def _best(history: list[dict]) -> str:
    """The highest accuracy, or the lowest perplexity, of the evaluations."""
    for name, best in (("accuracy", max), ("perplexity", min)):
        scores = [line[f"eval_{name}"] for line in history if f"eval_{name}" in line]
        if scores:
            return f"{name} {best(scores):.4f}"
    return ""


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
