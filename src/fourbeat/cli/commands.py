"""The commands: plain functions whose arguments and docstrings tyro makes into flags and help."""

import functools
import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from fourbeat import runs
from fourbeat.cli import evaluating, owning, predicting, texts, trained
from fourbeat.cli.resuming import defaults
from fourbeat.purity import command
from fourbeat.recipes import char_gpt, linear_regression, mnist_cnn, mnist_resnet

RECIPES = {
    "mnist-cnn": (mnist_cnn.MnistCNN, mnist_cnn.train),
    "mnist-resnet": (mnist_resnet.MnistResNet, mnist_resnet.train),
    "linear-regression": (linear_regression.LinearRegression, linear_regression.train),
    "char-gpt": (char_gpt.CharGPT, char_gpt.train),
}

_Run = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]


def commands(args: Sequence[str]) -> dict[str, Callable]:
    """Every command by name.

    Args:
      args: those of the call. Where they resume a run, its own flags are the defaults.
    """
    return {
        "train": _train_command(args),
        "evaluate": evaluate,
        "predict": predict,
        "new": new,
        "runs": list_runs,
        "check": check,
    }


def evaluate(
    run: _Run,
    step: trained.Step = "best",
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> Callable:
    """Scores a run on the test set, with precision and recall of each class, or file by file.

    Args:
      run: the run's directory.
      step: of the checkpoint: best, latest, or its number.
      json: print one JSON object.
    """
    return lambda: (texts if trained.is_of_text(run) else evaluating).evaluate(run, step, as_json=json)


def predict(
    run: _Run,
    files: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE...")]],
    step: trained.Step = "best",
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> Callable:
    """Predicts the digits in PNG, JPEG and idx files, or folders of these, with probabilities.

    Pictures of any size and colour are converted to 28 x 28, bright on dark, and that is said. A run of
    char-gpt goes on with the text of each file.

    Args:
      run: the run's directory.
      files: images, idx files or folders; texts.
      step: of the checkpoint: best, latest, or its number.
      json: print one JSON object.
    """
    return lambda: (texts if trained.is_of_text(run) else predicting).predict(run, files, step, as_json=json)


def new(
    recipe: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RECIPE")]],
    file: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="FILE")]],
    plain: tyro.conf.FlagCreatePairsOff[bool] = False,
    force: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> Callable:
    """Writes a recipe into a file of your own: run it, change it, own it.

    Args:
      recipe: its name, as for train.
      file: the file to write, such as train.py.
      plain: write the loop in plain JAX, Flax and Optax, without fourbeat.
      force: write over a file that is there.
    """

    def write() -> None:
        if recipe not in RECIPES:
            raise ValueError(f"there is no recipe {recipe}; there are {', '.join(RECIPES)}.")
        config_type, train = RECIPES[recipe]
        owning.new(recipe, config_type, train, file, plain=plain, force=force)

    return write


def check(target: tyro.conf.Positional[str], args: str | None = None) -> Callable:
    """Says what jax.jit would lose of a function; exits with 1 where it is impure.

    Args:
      target: package.module:function, or package.module:object.method.
      args: example arguments: a Python expression, evaluated in that module.
    """
    return lambda: sys.exit(command.check(target, args))


def list_runs(directory: tyro.conf.Positional[Path] = Path("runs")) -> Callable:
    """Lists the runs below a directory, newest first."""
    return lambda: runs.show_runs(directory)


def _train_command(args: Sequence[str]) -> Callable:
    configs = [
        Annotated[config_type, tyro.conf.subcommand(name, default=_default(name, config_type, args))]
        for name, (config_type, _) in RECIPES.items()
    ]
    recipe_type = functools.reduce(operator.or_, configs)

    def train(recipe: Any) -> Callable:
        """Trains a recipe, and writes its run directory."""
        for config_type, train_recipe in RECIPES.values():
            if isinstance(recipe, config_type):
                return lambda: train_recipe(recipe)
        raise AssertionError(recipe)

    train.__annotations__["recipe"] = tyro.conf.OmitArgPrefixes[tyro.conf.OmitSubcommandPrefixes[recipe_type]]
    return train


def _default(name: str, config_type: type, args: Sequence[str]) -> Any:
    return defaults(name, config_type, args[2:] if list(args[:2]) == ["train", name] else ())
