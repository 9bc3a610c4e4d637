"""A run's own directory: its config, its history, its checkpoints, its plots."""

import dataclasses
import datetime
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import jax

from fourbeat.checkpoints import Checkpoints
from fourbeat.loggers import append_line
from fourbeat.runs.lock import Lock

_PACKAGES = ("fourbeat", "jax", "jaxlib", "flax", "optax", "numpy")
_OF_THE_CALL = {"out", "resume"}  # flags that say where a run lies, not what it is


class RunDirectory:
    """Holds `config.json`, `metrics.jsonl`, `checkpoints/` and the plots of one run. Made by `open`.

    Attributes:
      path: where it is.
      is_new: whether it was made now; False where a run goes on.
    """

    def __init__(self, path: Path, *, is_new: bool):
        self.path = path
        self.is_new = is_new
        self._lock = Lock(path / "lock")

    @classmethod
    def open(cls, recipe: str, config: Any, *, exact: frozenset[str] = frozenset()) -> Self:
        """The directory of a new run, or, where `config.resume` says so, of one that goes on.

        Args:
          recipe: the recipe's name.
          config: a dataclass; its field `out` is the directory (None: `runs/<recipe>/<time>`), and
            `resume`, where it has one, is None, "latest" or a run's path. Every other field is
            written to `config.json`.
          exact: fields that may change on resume without another result at the same step.

        Raises:
          ValueError: the directory cannot be written, holds a run that is not to be resumed, is
            written by another process, or there is no such run.
        """
        found = find(recipe, config)
        run = cls(found or config.out or _default_path(recipe), is_new=found is None)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            if run.is_new and (run.path / "config.json").exists():
                raise ValueError(
                    f"{run.path} holds a run already. Choose another --out, or go on with --resume latest."
                )
            run._lock.acquire()
            if run.is_new:
                run._write("config.json", _description(recipe, config))
            else:
                run._say_changes(config, exact)
        except OSError as error:
            raise ValueError(
                f"cannot write the run directory {run.path}: {error.strerror}. Choose another --out."
            ) from None
        return run

    def checkpoints(self, **options: Any) -> Checkpoints:
        """The run's checkpoints; options as of `fourbeat.Checkpoints`."""
        return Checkpoints(self.path / "checkpoints", **options)

    def log(self, step: int, **groups: dict) -> None:
        """Appends one line to `metrics.jsonl`: `{"step": 100, "train_loss": 0.1, ...}`.

        Args:
          step: the step that the values belong to.
          groups: dicts of values; a value's name becomes `<group>_<name>`. Arrays become lists.
        """
        line = {
            f"{group}_{name}": value for group, values in groups.items() for name, value in values.items()
        }
        append_line(self._history_file, step, line)

    def history(self) -> list[dict]:
        """The lines of `metrics.jsonl`; none where nothing was logged."""
        return read_history(self.path)

    @property
    def history_size_bytes(self) -> int:
        """How long the history is: what a checkpoint holds of it."""
        return self._history_file.stat().st_size if self._history_file.exists() else 0

    def cut_history(self, size_bytes: int) -> None:
        """Takes back what was logged after the history was `size_bytes` long."""
        if self.history_size_bytes > size_bytes:
            os.truncate(self._history_file, size_bytes)

    def tree(self, **parts: Any) -> dict:
        """What to save of a run: its parts, and how long its history is at this moment."""
        return {**parts, "history_size_bytes": self.history_size_bytes}

    def save_figure(self, name: str, figure: Any) -> None:
        """Writes a matplotlib figure as `<name>.png`."""
        figure.savefig(self.path / f"{name}.png", dpi=120, bbox_inches="tight")

    def finish(self, result: dict) -> None:
        """Marks the run as finished, with its result."""
        self._write("result.json", result)

    def close(self) -> None:
        """Lets go of the directory; the end of the process does that too."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def result(self) -> dict | None:
        """What `finish` was given; None where the run has not finished."""
        return read_json(self.path / "result.json")

    @property
    def _history_file(self) -> Path:
        return self.path / "metrics.jsonl"

    def _write(self, name: str, content: dict) -> None:
        """Whole or not at all."""
        unfinished = self.path / f"{name}.unfinished"
        unfinished.write_text(json.dumps(content, indent=2, default=str) + "\n")
        unfinished.replace(self.path / name)

    def _say_changes(self, config: Any, exact: frozenset[str]) -> None:
        described = read_json(self.path / "config.json") or {}
        flags, saved = _flags(config), described.get("flags", {})
        changed = [name for name in flags if flags[name] != saved.get(name)]
        for name in changed:
            print(f"changed on resume: {name} {saved.get(name)} -> {flags[name]}")
        if inexact := [name for name in changed if name not in exact]:
            print(f"{', '.join(inexact)}: the result is no longer that of an unbroken run")
        if changed:
            self._write("config.json", {**described, "flags": flags})


def find(recipe: str, config: Any) -> Path | None:
    """The directory of the run to go on with; None where a new one is wanted.

    `--resume latest` looks at `--out` where that is given, else at the newest run of the recipe. With no
    run there it begins one, so that a scheduler may repeat one command.

    Raises:
      ValueError: the path to resume from holds no run of this recipe.
    """
    wanted = getattr(config, "resume", None)
    if wanted is None:
        return None
    if wanted == "latest":
        places = [config.out] if config.out else sorted((Path("runs") / recipe).glob("*/"), reverse=True)
        return next((place for place in places if (place / "config.json").exists()), None)
    described = read_json(Path(wanted) / "config.json")
    if described is None or described.get("recipe") != recipe:
        raise ValueError(f"--resume {wanted}: there is no run of {recipe} in that directory.")
    return Path(wanted)


def read_json(path: Path) -> dict | None:
    """The JSON object of a file, or None where there is no such file."""
    return json.loads(path.read_text()) if path.exists() else None


def read_history(path: Path) -> list[dict]:
    """The lines of a run's `metrics.jsonl`; a line that a killed process left half is left out."""
    file = path / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def _default_path(recipe: str) -> Path:
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    path = Path("runs") / recipe / now
    return path if not path.exists() else path.with_name(f"{now}_{os.getpid()}")


def _flags(config: Any) -> dict:
    """Every flag that says what the run is."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in _OF_THE_CALL}


def _description(recipe: str, config: Any) -> dict:
    device = jax.devices()[0]
    return {
        "recipe": recipe,
        "flags": _flags(config),
        "versions": {"python": platform.python_version(), **{p: metadata.version(p) for p in _PACKAGES}},
        "git_revision": _git_revision(),
        "device": f"{device.platform}: {device.device_kind} x {jax.device_count()}",
    }


def _git_revision() -> str | None:
    """The revision of the working directory's checkout; None outside of one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
