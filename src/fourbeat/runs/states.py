"""Whether a run is running, finished, stopped, crashed or killed. No JAX is needed."""

from pathlib import Path
from typing import Any

from fourbeat.runs.copies import is_written, shown
from fourbeat.runs.records import read_json
from fourbeat.runs.scores import is_number

ENDED = ("finished", "stopped", "crashed")


def read_summary(path: Path) -> dict[str, Any] | None:
    """What `summary.json` holds, its state made true; None where a run has none.

    A process that is killed cannot write that it was. So a run that says "running" is "killed" where no
    process holds its lock.

    Raises:
      ValueError: the file is damaged, or of no run; the text names it.
    """
    file = path / "summary.json"
    summary = read_json(file)
    if summary is None:
        return None
    if summary.get("state") not in ("running", *ENDED) or not all(map(_has_form, summary.items())):
        raise ValueError(f"{shown(file)} is of no run: it does not hold what a run writes there.")
    is_killed = summary["state"] == "running" and not is_written(path)
    return {**summary, "state": "killed"} if is_killed else summary


def _has_form(entry: tuple[str, Any]) -> bool:
    """Whether an entry of a summary is what a run writes there. What others add may have any form."""
    name, value = entry
    if name in ("best", "error"):
        return isinstance(value, dict) or (name == "error" and value is None)
    if name in ("seconds", "shares_percent"):
        return isinstance(value, dict) and all(map(is_number, value.values()))
    if name == "saved":
        return isinstance(value, list) and all(map(_is_saved, value))
    return name != "resumes" or (isinstance(value, list) and all(isinstance(each, dict) for each in value))


def _is_saved(value: Any) -> bool:
    is_one = isinstance(value, dict) and type(value.get("step")) is int
    return is_one and _has_form(("seconds", value.get("seconds")))


def state_of(summary: dict[str, Any] | None, result: dict | None, history: list[dict]) -> str:
    """The state in a word or two: `finished`, `running`, `stopped, not finite`; `unfinished` of an old run.

    Args:
      summary: of `read_summary`.
      result: what the run has finished with.
      history: its lines.
    """
    if result is not None:
        return "finished"
    is_broken = bool(history) and any(value is None for value in history[-1].values())
    if summary is None:
        return "not finite" if is_broken else "unfinished"
    return f"{summary['state']}, not finite" if is_broken else summary["state"]
