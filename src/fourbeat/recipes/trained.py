"""A run read back: its recipe, its flags, and the state of one of its checkpoints."""

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import fourbeat as fb
from fourbeat.recipes import RECIPES, Recipe
from fourbeat.replicating import Replicas
from fourbeat.runs import best_member
from fourbeat.runs.copies import shown
from fourbeat.runs.flags import from_record
from fourbeat.runs.naming import named
from fourbeat.runs.records import Record, read_record
from fourbeat.types import Config, Object

Step = Literal["best", "latest"] | int


class Trained(NamedTuple):
    """What a run has learnt.

    Attributes:
      path: the run's directory.
      recipe: the module of its recipe.
      config: its flags.
      beats: its beats.
      state: that of the checkpoint, of several members that of the best; `state.step` is its step.
    """

    path: Path
    recipe: Object
    config: Config
    beats: fb.Beats
    state: fb.TrainState

    @property
    def name(self) -> str:
        """What commands take for the run: the path of its directory, or its address."""
        return shown(self.path)


def load(path: Path, step: Step, *, mode: Literal["min", "max"]) -> Trained:
    """Reads a run and one of its checkpoints.

    Args:
      path: the run's directory.
      step: which checkpoint. Where none has a score, "best" is the latest, and a line says so.
      mode: "max" where the best score is the highest one, "min" where it is the lowest one.

    Raises:
      ValueError: there is no such run or checkpoint, or the checkpoint is not of this recipe.
      CheckpointError: the checkpoint is damaged.
    """
    recipe, config = _described(path)
    beats = recipe.make_beats(config)
    checkpoints = fb.Checkpoints(path / "checkpoints", mode=mode)
    steps = checkpoints.steps
    if not steps:
        raise ValueError(f"{shown(path)} has no checkpoint. Train it first, or wait for its first one.")
    if isinstance(step, int) and step not in steps:
        raise ValueError(
            f"{shown(path)} has no checkpoint of step {step}; it has {', '.join(map(str, steps))}."
        )
    has_no_score = step == "best" and checkpoints.best is None
    step = "latest" if has_no_score else step
    like: dict[str, Any] = {"state": recipe.make_state(config, beats)}
    if isinstance(beats, Replicas):
        like["more"] = (recipe.make_stopping(config),)  # it says which member is the best
    restored, mismatch = checkpoints.restore(like, step, partial=True)
    differing = [d for d in mismatch.differences if d.path.startswith("tree['state']")]
    if differing:
        place, saved, wanted = differing[0]
        raise ValueError(
            f"the checkpoint in {shown(path)} is not of this recipe: at {place} it has {saved}, and the "
            f"recipe {wanted}. {len(differing)} places differ."
        )
    if has_no_score:
        print(f"no checkpoint of {shown(path)} has a score yet; this is the latest", file=sys.stderr)
    state = restored["state"]
    if isinstance(beats, Replicas):
        with contextlib.redirect_stdout(sys.stderr):  # what is printed is the scores alone
            beats, state = best_member(beats, state, *restored["more"])
    return Trained(path, recipe, config, beats, state)


def chosen(path: Path, part: Literal["evaluate", "predict", "export"]) -> tuple[Path, Recipe]:
    """The run that is meant, and its recipe. `latest` and `best` are of the runs that have this part.

    Raises:
      ValueError: there is none, or it is damaged, or its recipe has no such part.
    """
    able = [name for name, recipe in RECIPES.items() if getattr(recipe, part) is not None]
    path = named(path, able)
    record = _record(path)
    if record.recipe not in able:
        does = {"evaluate": "be evaluated", "predict": "predict", "export": "be exported"}[part]
        raise ValueError(f"{shown(path)} is a run of {record.recipe}; runs of {', '.join(able)} can {does}.")
    return path, RECIPES[record.recipe]


def _described(path: Path) -> tuple[Any, Any]:
    """The recipe's module and the flags of a run; `out` is where it lies now."""
    record = _record(path)
    recipe = RECIPES[record.recipe]
    config = from_record(recipe.load("config"), record.flags, where=f"{shown(path / 'config.json')}: ")
    return recipe.module, dataclasses.replace(config, out=path) if hasattr(config, "out") else config


def _record(path: Path) -> Record:
    record = None if path.is_file() else read_record(path)
    if record is None:
        raise ValueError(f"there is no run in {shown(path)}. `fourbeat runs` lists those that are there.")
    return record
