"""Trackers of experiments by name: Weights & Biases, MLflow and trackio log what a run logs.

Each is imported where it is asked for. A run that goes on goes on in its tracker too: the tracker's own
number of the run is kept in the run's directory.
"""

import importlib
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fourbeat.loggers.failures import warns_once
from fourbeat.loggers.scalars import scalars
from fourbeat.types import Figure


class Tracker:
    """A logger that hands the numbers of each step to a tracker.

    Args:
      name: of the tracker.
      log: takes numbers by name, and a step.
      figure: takes a name, the path of an image that is gone afterwards, and a step.
      close: ends the tracker's run.
    """

    def __init__(
        self,
        name: str,
        log: Callable[[dict[str, float], int], object],
        figure: Callable[[str, str, int], object],
        close: Callable[[], object],
    ):
        self._name, self._log, self._figure, self._close = name, log, figure, close
        self._has_failed = False

    @warns_once
    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Hands on the numbers of a step; a group's are named `eval/loss`."""
        self._log(dict(scalars(values)), int(step))

    @warns_once
    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Hands on a figure as an image."""
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / f"{name}.png")
            figure.savefig(path, dpi=120, bbox_inches="tight")
            self._figure(name, path, int(step))

    @warns_once
    def close(self) -> None:
        """Ends the tracker's run."""
        self._close()

    def __repr__(self) -> str:
        return f"Tracker({self._name!r})"


def wandb(run: Path, flags: Mapping[str, Any]) -> Tracker:
    """A run of Weights & Biases, in the project of the recipe; its files lie in the run's directory."""
    wandb: Any = importlib.import_module("wandb")

    project, name = _names(run)
    number = _kept(run / "wandb.id", lambda: uuid.uuid4().hex[:8])
    begun = wandb.init(
        project=project, name=name, id=number, resume="allow", dir=str(run), config=dict(flags)
    )
    return Tracker(
        "wandb",
        lambda values, step: begun.log(values, step=step),
        lambda name, path, step: begun.log({name: wandb.Image(path)}, step=step),
        begun.finish,
    )


def mlflow(run: Path, flags: Mapping[str, Any]) -> Tracker:
    """A run of MLflow, where its tracking URI and experiment say."""
    mlflow: Any = importlib.import_module("mlflow")

    _, name = _names(run)
    file = run / "mlflow.id"
    begun = mlflow.start_run(run_id=file.read_text().strip() if file.exists() else None, run_name=name)
    if not file.exists():
        mlflow.log_params(dict(flags))
    _kept(file, lambda: begun.info.run_id)
    return Tracker(
        "mlflow",
        lambda values, step: mlflow.log_metrics(values, step=step),
        lambda name, path, step: mlflow.log_artifact(path),
        mlflow.end_run,
    )


def trackio(run: Path, flags: Mapping[str, Any]) -> Tracker:
    """A run of trackio, in the project of the recipe."""
    trackio: Any = importlib.import_module("trackio")

    project, name = _names(run)
    trackio.init(project=project, name=name, resume="allow", config=dict(flags))
    return Tracker(
        "trackio",
        lambda values, step: trackio.log(values, step=step),
        lambda name, path, step: trackio.log({name: trackio.Image(path)}, step=step),
        trackio.finish,
    )


def _names(run: Path) -> tuple[str, str]:
    """The project and the name of a run: those of its last two folders."""
    whole = run.resolve()
    return whole.parent.name or "fourbeat", whole.name


def _kept(file: Path, make: Callable[[], str]) -> str:
    """The text that a file keeps; made where it is not there."""
    if not file.exists():
        file.write_text(make() + "\n")
    return file.read_text().strip()
