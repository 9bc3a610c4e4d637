"""A run read back: its recipe, its flags, and the state of one of its checkpoints."""

import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import fourbeat as fb
from fourbeat.recipes.table import RECIPES
from fourbeat.runs.flags import from_record
from fourbeat.runs.records import newest, read_record

Step = Literal["best", "latest"] | int

_KNOWN = tuple(name for name, recipe in RECIPES.items() if recipe.models is not None)


class Trained(NamedTuple):
    """What a run has learnt.

    Attributes:
      path: the run's directory.
      recipe: the module of its recipe.
      config: its flags.
      beats: its beats.
      state: that of the checkpoint; `state.step` is its step.
    """

    path: Path
    recipe: Any
    config: Any
    beats: fb.Beats
    state: fb.TrainState


def load(path: Path, step: Step) -> Trained:
    """Reads a run and one of its checkpoints.

    Args:
      path: the run's directory.
      step: which checkpoint. Where none has a score, "best" is the latest, and that is said.

    Raises:
      ValueError: there is no such run or checkpoint, or the recipe has none; or it is not this recipe's.
      CheckpointError: the checkpoint is damaged.
    """
    recipe, config = _described(path)
    beats = recipe.make_beats(config)
    checkpoints = fb.Checkpoints(path / "checkpoints", mode="min" if is_of_text(path) else "max")
    steps = checkpoints.steps
    if not steps:
        raise ValueError(f"{path} has no checkpoint. Train it first, or wait for its first one.")
    if isinstance(step, int) and step not in steps:
        raise ValueError(f"{path} has no checkpoint of step {step}; it has {', '.join(map(str, steps))}.")
    has_no_score = step == "best" and checkpoints.best is None
    step = "latest" if has_no_score else step
    like = {"state": recipe.make_state(config, beats)}
    restored, mismatch = checkpoints.restore(like, step, partial=True)
    differing = [d for d in mismatch.differences if d.path.startswith("tree['state']")]
    if differing:
        place, saved, wanted = differing[0]
        raise ValueError(
            f"the checkpoint in {path} is not of this recipe: at {place} it has {saved}, and the recipe "
            f"{wanted}. {len(differing)} places differ."
        )
    if has_no_score:
        print(f"no checkpoint of {path} has a score yet; this is the latest", file=sys.stderr)
    return Trained(path, recipe, config, beats, restored["state"])


def chosen(path: Path) -> Path:
    """The run that is meant: `latest` is the newest one below `runs`.

    Raises:
      ValueError: there is none, or it is damaged.
    """
    if str(path) != "latest":
        return path
    found = newest(_KNOWN)
    if found is None:
        raise ValueError(f"there is no run of {', '.join(_KNOWN)} below runs. Name the run's directory.")
    return found


def is_of_text(path: Path) -> bool:
    """Whether this is a run of a model of text; False where there is no run to read."""
    try:
        record = read_record(path)
    except ValueError:
        return False
    return record is not None and record.recipe in RECIPES and RECIPES[record.recipe].models == "text"


def _described(path: Path) -> tuple[Any, Any]:
    """The recipe's module and the flags of a run."""
    record = None if path.is_file() else read_record(path)
    if record is None:
        raise ValueError(f"there is no run in {path}. `fourbeat runs` lists those that are there.")
    if record.recipe not in _KNOWN:
        raise ValueError(
            f"{path} is a run of {record.recipe}; runs of {', '.join(_KNOWN)} can be evaluated and predict."
        )
    module, config_type = RECIPES[record.recipe].load()
    return module, from_record(config_type, record.flags, where=f"{path / 'config.json'}: ")
