"""The commands: plain functions whose arguments and docstrings tyro makes into flags and help."""

import dataclasses
import functools
import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from fourbeat import runs
from fourbeat.purity import command
from fourbeat.recipes import linear_regression, mnist_cnn

RECIPES = {
    "mnist-cnn": (mnist_cnn.MnistCNN, mnist_cnn.train),
    "linear-regression": (linear_regression.LinearRegression, linear_regression.train),
}


def commands(args: Sequence[str]) -> dict[str, Callable]:
    """Every command by name.

    Args:
      args: those of the call. Where they resume a run, its own flags are the defaults.
    """
    return {"train": _train_command(args), "runs": list_runs, "check": check}


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
    """The recipe's defaults; the flags of the run that `--resume` and `--out` name, where they do."""
    default = config_type()
    given = {flag: _value_of(flag, args) for flag in ("--resume", "--out")}
    if args[:2] != ["train", name] or given["--resume"] is None:
        return default
    out = None if given["--out"] is None else Path(given["--out"])
    found = runs.find(name, dataclasses.replace(default, resume=given["--resume"], out=out))
    saved = {} if found is None else (runs.read_json(found / "config.json") or {})
    fields = {field.name for field in dataclasses.fields(default)}
    return dataclasses.replace(default, **{k: v for k, v in saved.get("flags", {}).items() if k in fields})


def _value_of(flag: str, args: Sequence[str]) -> str | None:
    for place, arg in enumerate(args):
        if arg == flag and place + 1 < len(args):
            return args[place + 1]
        if arg.startswith(f"{flag}="):
            return arg.removeprefix(f"{flag}=")
    return None
