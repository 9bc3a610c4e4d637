"""What one run records: the lines of its history, its figures, and the loggers that get the same."""

import math
from pathlib import Path
from typing import Any

from fourbeat.distributed import speaks
from fourbeat.loggers import JsonLines, Several, strict_json
from fourbeat.loggers.json_lines import append_line, as_line, is_after
from fourbeat.runs.records import parsed_history, read_history
from fourbeat.types import Figure


class RunLog:
    """The history of a run, the loggers beside it, and the score that the newest line holds.

    Of several processes, process 0 alone writes. The others keep their lines in memory.

    Args:
      path: the run's directory.
      loggers: what gets the same values and figures.
      score: the logged value that says how good a step is.
    """

    def __init__(self, path: Path, loggers: Several, score: str | None):
        self.file = path / "metrics.jsonl"
        self.loggers = loggers
        self._path = path
        self._score = score
        self._last_score: tuple[int, float] | None = None
        self._own_lines: list[bytes] = []  # of a process that does not write

    def go_on(self, size_bytes: int) -> None:
        """Knows the lines of the run that goes on: the first `size_bytes` of its file."""
        if not speaks() and size_bytes:
            with self.file.open("rb") as file:
                self._own_lines = file.read(size_bytes).splitlines(keepends=True)

    def history(self) -> tuple[list[dict], list[str]]:
        """The lines, and a text for each damaged one; see `fourbeat.runs.records.read_history`."""
        return read_history(self._path) if speaks() else parsed_history(self._own_lines)

    def log(self, step: int, values: dict[str, Any]) -> dict[str, Any]:
        """Appends a line, and gives the loggers its values. Returns the line as it is written."""
        line = {}
        for name, value in values.items():
            is_group = isinstance(value, dict)
            line |= {f"{name}_{inner}": held for inner, held in value.items()} if is_group else {name: value}
        line = strict_json.plain(line)
        if speaks():
            append_line(self.file, step, line)
        else:
            self._own_lines.append(as_line(step, line))
        self.loggers.log(step, values)
        if self._score in line:
            score = line[self._score]
            self._last_score = int(step), math.nan if score is None else float(score)
        return {"step": int(step), **line}

    def score_of(self, step: int) -> float | None:
        """The score of a step; None if it has none, or if a later step has one."""
        is_of_step = self._last_score is not None and self._last_score[0] == step
        return self._last_score[1] if self._last_score is not None and is_of_step else None

    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Writes a figure as `<name>.png`, and gives it to the loggers."""
        if not speaks():
            return
        figure.savefig(self._path / f"{name}.png", dpi=120, bbox_inches="tight")
        self.loggers.figure(step, name, figure)

    def cut_after(self, step: int) -> None:
        """Takes back the lines of later steps, from the loggers too."""
        self._own_lines = [line for line in self._own_lines if not is_after(line, step)]
        JsonLines(self.file).cut_after(step)
        self.loggers.cut_after(step)
