"""`summary.json`: how a run stands, in one file that is whole or absent."""

import platform
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fourbeat.distributed import speaks
from fourbeat.loggers.failures import warns_once
from fourbeat.runs.description import now
from fourbeat.runs.errors import Interrupted
from fourbeat.runs.goodput import shares_percent
from fourbeat.runs.process_age import unclaimed_age_s
from fourbeat.runs.records import Record, read_history, read_record, write_json
from fourbeat.runs.scores import Best, add_to_best, best_of
from fourbeat.runs.states import read_summary
from fourbeat.runs.wall_times import WallTimes

_WRITTEN_EVERY_S = 5.0  # at most, while the loop runs


class Summary:
    """Keeps the summary of a run while it trains: its state, its best scores, its wall times.

    Nothing is written before `begin`. A file that cannot be written warns once, and the run goes on. Of
    several processes, process 0 alone keeps one; the others only count the time.

    Args:
      path: the run's directory.

    Attributes:
      times: where the wall time goes.
      has_result: whether the run was given its result; it is finished then, whatever happens later.
    """

    def __init__(self, path: Path):
        self.times = WallTimes(unclaimed_age_s())
        self.has_result = False
        self._file = path / "summary.json"
        self._path = path
        self._record: Record | None = None
        self._content: dict[str, Any] = {}
        self._best: Best = {}
        self._written_s = 0.0
        self._has_failed = False

    def begin(self, step: int, *, is_new: bool) -> None:
        """The run begins, or goes on from a step, and is running."""
        if not speaks():
            return
        self._record = read_record(self._path)
        before = {} if is_new else read_summary(self._path)
        before = before if before is not None else {}
        saved = [each for each in before.get("saved", []) if each["step"] <= step]
        if not is_new and "seconds" in before:
            at_step = saved[-1]["seconds"] if saved else {}
            self.times.go_on(before["seconds"], at_step if "saved" in before else before["seconds"])
        self._best = best_of(read_history(self._path)[0], self._record) if self._record is not None else {}
        resumes = [*before.get("resumes", []), *([] if is_new else [{"when": now(), "step": step}])]
        self._content = {
            "state": "running", "step": step, "error": None, "signal": None, "resumes": resumes,
            "host": platform.node(), "saved": saved,
        }  # fmt: skip
        self.write()

    @property
    def is_begun(self) -> bool:
        """Whether the run is told of: not where it is finished already, or was refused."""
        return bool(self._content)

    def see(self, line: dict[str, Any]) -> None:
        """Takes note of a line of the history."""
        if self._record is not None:
            add_to_best(self._best, line, self._record)
        if self.is_begun:
            self._pass(line["step"])

    def end_tick(self, step: int) -> None:
        """The body of a tick is done."""
        self.times.end_tick()
        if self.is_begun:
            self._pass(step)

    def end(
        self, step: int | None, error: BaseException | None, *, is_whole: bool, signal: int | None
    ) -> None:
        """The run ends: finished, stopped or crashed.

        Args:
          step: the loop's; None where there was no loop.
          error: what ended it. Ctrl-C and the like stop a run; any other error is a crash.
          is_whole: whether the loop reached the run's own end.
          signal: the number of the signal that stopped it.
        """
        if not self.is_begun:
            return
        step = self._content["step"] if step is None else step
        is_crash = isinstance(error, Exception) and not isinstance(error, Interrupted)
        self._content |= {"state": "crashed" if is_crash else "stopped", "step": step, "signal": signal}
        if self.has_result or (error is None and is_whole):
            self._content["state"] = "finished"
        if is_crash:
            self._content["error"] = {"type": type(error).__name__, "text": _text(error), "step": step}
        saved = self._content["saved"]
        if error is None and saved and saved[-1]["step"] == step:
            saved[-1]["seconds"] = self.times.seconds()  # what was done since is not done again
        self.write()

    def reach(self, step: int, kept: Collection[int] = ()) -> None:
        """The run has saved a step.

        Args:
          step: the step.
          kept: steps whose checkpoints are still there.
        """
        if self.is_begun:
            saved = [each for each in self._content["saved"] if each["step"] in kept and each["step"] < step]
            self._content["saved"] = [*saved, {"step": step, "seconds": self.times.seconds()}]
            self._content["step"] = step
        self.write()

    def _pass(self, step: int) -> None:
        self._content["step"] = max(self._content["step"], step)
        if time.monotonic() - self._written_s > _WRITTEN_EVERY_S:
            self.write()

    @warns_once
    def write(self) -> None:
        """Writes the file as it stands now."""
        if not self.is_begun:
            return
        self._written_s = time.monotonic()
        seconds = self.times.seconds()
        times = {"seconds": seconds, "shares_percent": shares_percent(seconds)}
        write_json(self._file, {**self._content, "written": now(), "best": self._best, **times})

    def __repr__(self) -> str:
        return f"Summary({str(self._file)!r})"


def _text(error: BaseException | None) -> str:
    try:
        return str(error)
    except Exception:  # an error of the user's may have any `__str__`
        return ""
