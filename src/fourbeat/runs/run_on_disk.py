"""A run as its directory tells it: for a list, a report, a notebook. No JAX is needed."""

import base64
import dataclasses
import html
import io
import os
from pathlib import Path
from typing import Any, Self

from fourbeat.runs.copies import shown
from fourbeat.runs.naming import named
from fourbeat.runs.records import Record, read_history, read_json, read_record, read_result
from fourbeat.runs.scores import Best, best_of, last_of
from fourbeat.runs.states import read_summary, state_of


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    r"""A run that was read from its directory, by `read`. Nothing in the directory changes.

    A notebook shows its curves; so does `nnx.display`.

    Attributes:
      path: the run's directory; of a run at an address a copy of it, without its checkpoints.
      record: its recipe, its flags, its score, and when it was begun.
      config: all that `config.json` holds.
      history: the lines of `metrics.jsonl`.
      summary: what `summary.json` holds; None where a run of before has none. A run that was killed has the
        state "killed".
      result: what it has finished with; None where it has not.
      problems: a text for each damaged line or file.

    >>> import json, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "config.json").write_text(json.dumps({"recipe": "a-line", "flags": {"steps": 2}}))
    >>> _ = (folder / "metrics.jsonl").write_text('{"step": 1, "eval_loss": 0.5}\n')
    >>> run = Run.read(folder)
    >>> run.record.flags, run.best
    ({'steps': 2}, {'eval_loss': {'score': 0.5, 'step': 1, 'mode': 'min'}})
    """

    path: Path
    record: Record
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any] | None
    result: dict[str, Any] | None
    problems: list[str]

    @classmethod
    def read(cls, name: str | os.PathLike[str]) -> Self:
        """Reads a run.

        Args:
          name: its directory, or its address such as "s3://bucket/run"; or `latest` or `best`, of those below
            `runs` or below another folder or address, as in `runs/mnist-cnn/best`.

        Raises:
          ValueError: there is no run, or its `config.json` is damaged.
        """
        path = named(name)
        record = None if path.is_file() else read_record(path)
        if record is None:
            raise ValueError(f"there is no run in {shown(path)}. `fourbeat runs` lists those that are there.")
        history, problems = read_history(path)
        summary = result = None
        try:
            summary = read_summary(path)
        except ValueError as error:
            problems.append(str(error))
        try:
            result = read_result(path)
        except ValueError as error:
            problems.append(str(error))
        return cls(path, record, read_json(path / "config.json") or {}, history, summary, result, problems)

    @property
    def name(self) -> str:
        """What commands take for it: the path of its directory, or its address."""
        return shown(self.path)

    @property
    def state(self) -> str:
        """How it stands: finished, running, stopped, crashed, killed; unfinished, of a run of before."""
        return state_of(self.summary, self.result, self.history)

    @property
    def step(self) -> int:
        """The newest step that was logged, or at which the run ended; 0 before the first."""
        ended = (self.summary or {}).get("step")
        logged = self.history[-1]["step"] if self.history else 0
        return max(logged, ended) if isinstance(ended, int) else logged

    @property
    def best(self) -> Best:
        """The best of each score: `{"eval_loss": {"score": 0.25, "step": 200, "mode": "min"}}`."""
        return best_of(self.history, self.record)

    @property
    def last(self) -> dict[str, float]:
        """The last number of each logged value."""
        return last_of(self.history)

    @property
    def resumes(self) -> list[dict[str, Any]]:
        """When it went on, and from which step."""
        return [] if self.summary is None else list(self.summary.get("resumes", []))

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.state}, step {self.step})"

    def _repr_html_(self) -> str:
        """The line of its repr, and its curves."""
        from fourbeat.runs.figures import curves

        said = f"<div><code>{html.escape(repr(self))}</code></div>"
        figure = curves(self.history)
        if not figure.axes:
            return said
        picture = io.BytesIO()
        figure.savefig(picture, dpi=100, bbox_inches="tight")
        data = base64.b64encode(picture.getvalue()).decode()
        return f'{said}<img alt="curves" style="max-width: 100%" src="data:image/png;base64,{data}">'

    def __treescope_repr__(self, path: str | None, renderer: Any) -> Any:
        """What a notebook shows, and not behind a click."""
        from treescope import rendering_parts

        line = rendering_parts.text(repr(self))
        return rendering_parts.embedded_iframe(self._repr_html_(), fallback_in_text_mode=line)
