"""Where a run lies: the one to go on with, or the directory of a new one."""

import datetime
import os
from pathlib import Path

from fourbeat.runs.copies import on_this_machine, shown
from fourbeat.runs.naming import RUNS, named, newest
from fourbeat.runs.records import read_record
from fourbeat.types import Config

_WRITTEN = {
    "lock", "metrics.jsonl", "config.json", "result.json", "summary.json", "checkpoints", "tensorboard",
    "wandb", "wandb.id", "mlflow.id", "pictures.csv", "mistakes.html", "columns.json",
}  # fmt: skip


def find(recipe: str, config: Config) -> Path | None:
    """The directory of the run to go on with; None where a new one is wanted.

    `--resume latest` looks at `--out` where that is given, else at the run of the recipe that was begun
    last. With no run there it begins one, so that a scheduler may repeat one command. `--resume best` is the
    one with the best score.

    Raises:
      ValueError: the path to resume from holds no run of this recipe, or a damaged one.
    """
    wanted = getattr(config, "resume", None)
    if wanted is None:
        return None
    out = getattr(config, "out", None)
    if wanted == "latest" and not out:
        return newest([recipe])
    path = on_this_machine(str(out)) if wanted == "latest" else named(wanted, [recipe])
    record = read_record(path)
    if record is None and wanted == "latest":
        return None
    if record is None or record.recipe != recipe:
        raise ValueError(f"--resume {wanted}: there is no run of {recipe} in {_named(path, wanted)}.")
    return path


def holds_run(path: Path) -> bool:
    """Whether something of a run is there, a damaged one included."""
    return any(os.path.lexists(path / name) for name in ("config.json", "checkpoints"))


def refuse_links(path: Path) -> None:
    """Raises a ValueError where a link stands in the place of a file that a run writes.

    A run that came from elsewhere could name a file outside of it, and we would write there.
    """
    for place in sorted(path.iterdir()):
        is_ours = place.name in _WRITTEN or place.suffix in (".png", ".unfinished")
        if is_ours and place.is_symlink():
            raise ValueError(
                f"{place} is a link to {os.readlink(place)}, which is not followed: a run is written inside "
                "of its directory alone. Put what it points to in its place, or choose another --out."
            )


def default_path(recipe: str) -> Path:
    """The directory of a new run that has no `--out`: named for the time."""
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    path = RUNS / recipe / now
    return path if not path.exists() else path.with_name(f"{now}_{os.getpid()}")


def _named(path: Path, wanted: str) -> str:
    return shown(path) if wanted == "latest" else "that directory"
