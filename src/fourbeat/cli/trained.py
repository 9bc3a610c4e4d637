"""A run read back: its recipe, its flags, and the state of one of its checkpoints."""

import dataclasses
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import fourbeat as fb
from fourbeat import runs
from fourbeat.recipes import char_gpt, mnist_cnn, mnist_resnet

Step = Literal["best", "latest"] | int

# A recipe here has make_beats, make_state, make_batches (the last of these of the test set), TEST_METRICS,
# and predicts the logits of digits from images of 28 x 28.
DIGIT_RECIPES: dict[str, tuple[ModuleType, type]] = {
    "mnist-cnn": (mnist_cnn, mnist_cnn.MnistCNN),
    "mnist-resnet": (mnist_resnet, mnist_resnet.MnistResNet),
}
# A recipe here has make_beats, make_state, read_files, make_windows, METRICS, and predicts by going on with
# a text; the lower a checkpoint's score, the better.
TEXT_RECIPES: dict[str, tuple[ModuleType, type]] = {"char-gpt": (char_gpt, char_gpt.CharGPT)}


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
    if step == "best" and checkpoints.best is None:
        print(f"no checkpoint of {path} has a score yet; this is the latest", file=sys.stderr)
        step = "latest"
    like = {"state": recipe.make_state(config, beats)}
    restored, mismatch = checkpoints.restore(like, step, partial=True)
    differing = [d for d in mismatch.differences if d.path.startswith("tree['state']")]
    if differing:
        place, saved, wanted = differing[0]
        raise ValueError(
            f"the checkpoint in {path} is not of this recipe: at {place} it has {saved}, and the recipe "
            f"{wanted}. {len(differing)} places differ."
        )
    return Trained(path, recipe, config, beats, restored["state"])


def is_of_text(path: Path) -> bool:
    """Whether this is a run of one of `TEXT_RECIPES`; False where there is no run to read."""
    try:
        described = runs.read_json(path / "config.json")
    except (OSError, json.JSONDecodeError):
        return False
    return described is not None and described.get("recipe") in TEXT_RECIPES


def _described(path: Path) -> tuple[ModuleType, Any]:
    """The recipe's module and the flags of a run."""
    try:
        described = runs.read_json(path / "config.json")
    except json.JSONDecodeError as error:
        raise ValueError(f"{path / 'config.json'} is damaged: {error}") from None
    except NotADirectoryError:
        described = None
    if described is None:
        raise ValueError(f"there is no run in {path}. `fourbeat runs` lists those that are there.")
    name = described.get("recipe")
    recipes = DIGIT_RECIPES | TEXT_RECIPES
    if name not in recipes:
        raise ValueError(
            f"{path} is a run of {name}; runs of {', '.join(recipes)} can be evaluated and predict."
        )
    module, config_type = recipes[name]
    fields = {field.name for field in dataclasses.fields(config_type)}
    flags = {name: value for name, value in described.get("flags", {}).items() if name in fields}
    return module, config_type(**flags)
