"""A run's own directory: its config, its history, its plots."""

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

_PACKAGES = ("fourbeat", "jax", "jaxlib", "flax", "optax", "numpy")


class RunDirectory:
    """Holds `config.json`, `metrics.jsonl` and the plots of one run. Made by `create`.

    Attributes:
      path: where it is.
    """

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(cls, recipe: str, config: Any, out: Path | None = None) -> Self:
        """Makes the directory and writes `config.json`.

        Args:
          recipe: the recipe's name.
          config: a dataclass; every field is written.
          out: the directory; by default `runs/<recipe>/<time>`.

        Raises:
          ValueError: the directory cannot be written, or holds a run already.
        """
        path = _default_path(recipe) if out is None else Path(out)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if (path / "config.json").exists():
                raise ValueError(f"{path} holds a run already. Choose another --out, or remove it.")
            text = json.dumps(_description(recipe, config), indent=2, default=str) + "\n"
            (path / "config.json").write_text(text)
        except OSError as error:
            raise ValueError(
                f"cannot write the run directory {path}: {error.strerror}. Choose another --out."
            ) from None
        return cls(path)

    def log(self, step: int, **groups: dict) -> None:
        """Appends one line to `metrics.jsonl`: `{"step": 100, "train_loss": 0.1, ...}`.

        Args:
          step: the step that the values belong to.
          groups: dicts of values; a value's name becomes `<group>_<name>`. Arrays become lists.
        """
        line: dict[str, Any] = {"step": step}
        for group, values in groups.items():
            for name, value in values.items():
                line[f"{group}_{name}"] = value.tolist() if hasattr(value, "tolist") else value
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def history(self) -> list[dict]:
        """The lines of `metrics.jsonl`; none where nothing was logged."""
        file = self.path / "metrics.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def save_figure(self, name: str, figure: Any) -> None:
        """Writes a matplotlib figure as `<name>.png`."""
        figure.savefig(self.path / f"{name}.png", dpi=120, bbox_inches="tight")


def _default_path(recipe: str) -> Path:
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    path = Path("runs") / recipe / now
    return path if not path.exists() else path.with_name(f"{now}_{os.getpid()}")


def _description(recipe: str, config: Any) -> dict:
    device = jax.devices()[0]
    return {
        "recipe": recipe,
        "flags": dataclasses.asdict(config),
        "versions": {
            "python": platform.python_version(),
            **{p: metadata.version(p) for p in _PACKAGES},
        },
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
