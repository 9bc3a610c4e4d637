"""The commands: plain functions whose arguments and docstrings tyro makes into flags and help.

Nothing here loads JAX; a command loads what it needs when it runs.
"""

import functools
import inspect
import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fourbeat.recipes import RECIPES
from fourbeat.types import Object

_Run = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
_Runs = tyro.conf.Positional[tuple[Annotated[Path, tyro.conf.arg(metavar="RUN")], ...]]
_Step = Literal["best", "latest"] | int


def commands(args: Sequence[str]) -> dict[str, Callable]:
    """Every command by name.

    Args:
      args: the arguments of the call. If they resume a run, the flags of that run are the defaults.
    """
    return {
        "train": _train_command(args) if args[:1] == ["train"] else train,
        "evaluate": evaluate,
        "predict": predict,
        "export": export,
        "new": new,
        "runs": list_runs,
        "compare": compare,
        "report": report,
        "check": check,
    }


def train() -> Callable:
    """Trains a recipe, and writes its run directory."""
    raise AssertionError("`_train_command` makes the real one")


def evaluate(
    run: _Run,
    step: _Step = "best",
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> Callable:
    """Scores a run on the test set, or on what it held out: class by class, or file by file.

    Args:
      run: the run's directory, or latest or best for that one below runs.
      step: of the checkpoint: best, latest, or its number.
      json: print one JSON object.
    """

    def score() -> None:
        from fourbeat.recipes.trained import chosen

        path, recipe = chosen(run, "evaluate")
        recipe.load("evaluate")(path, step, as_json=json)

    return score


def predict(
    run: _Run,
    files: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE...")]],
    step: _Step = "best",
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    length: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: str | None = None,
    to: Path | None = None,
) -> Callable:
    """Predicts what the run has learnt from files, each read as the run's recipe reads its data.

    A run on pictures gives the class of each, with probabilities; a run on digits converts pictures of any
    size and colour to 28 x 28, bright on dark, and a line says so. A run on text goes on with each prompt and
    the text of each file, all together, and says how fast. A run on a table predicts each row of a CSV or
    Parquet file. A file that cannot be read is named; the others
    are predicted all the same, and the exit status is 2.

    Args:
      run: the run's directory, or latest or best for that one below runs.
      files: pictures, or folders of these; idx files of digits; texts; tables.
      step: of the checkpoint: best, latest, or its number.
      json: print one JSON object.
      prompt: a text to go on with; may be given several times. This and what follows is for texts alone.
      length: the most characters to draw; without it, as the run's samples are drawn. So for the others.
      temperature: the lower it is, the surer the characters are; 0 takes the likeliest.
      top_k: draw from so many of the likeliest characters alone.
      top_p: draw from the likeliest characters alone, as many as have this probability together.
      stop: end before this text.
      to: a .csv or .parquet file for the predictions of tables, all of their rows.
    """
    asked = {
        "sample_length": length, "temperature": temperature, "top_k": top_k, "top_p": top_p, "stop": stop,
    }  # fmt: skip
    drawing = {name: value for name, value in asked.items() if value is not None}
    for_texts = {**({"prompts": prompt} if prompt else {}), **({"drawing": drawing} if drawing else {})}
    for_tables = {} if to is None else {"to": to}

    def draw() -> None:
        from fourbeat.recipes.trained import chosen

        path, recipe = chosen(run, "predict")
        predicts = recipe.load("predict")
        takes = inspect.signature(predicts).parameters.keys()
        if not for_tables.keys() <= takes:
            raise ValueError(f"{path} is no run on a table. Leave out --to.")
        if not for_texts.keys() <= takes:
            names = [*(["prompt"] if prompt else []), *drawing]
            flags = [f"--{name.removeprefix('sample_').replace('_', '-')}" for name in names]
            raise ValueError(f"{path} is no run on text. Leave out {', '.join(flags)}.")
        predicts(path, files, step, as_json=json, **for_texts, **for_tables)

    return draw


def export(
    run: _Run,
    to: Path,
    format: Literal["stablehlo", "onnx", "safetensors"] = "stablehlo",
    step: _Step = "best",
) -> Callable:
    """Writes a run's model for those who serve it, and says how far it is from the model itself.

    stablehlo is a folder that JAX runs without fourbeat and without the model's code, for any number of
    examples; safetensors are the weights alone; onnx needs fourbeat[onnx].

    Args:
      run: the run's directory, or latest or best for that one below runs.
      to: the folder to write to; a new one for stablehlo.
      format: stablehlo, onnx or safetensors.
      step: of the checkpoint: best, latest, or its number.
    """

    def write() -> None:
        from fourbeat.recipes.trained import chosen

        path, recipe = chosen(run, "export")
        from fourbeat.recipes import exporting

        exporting.export(recipe.load("export")(path, step), to, format)

    return write


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
        from fourbeat.cli.new import write_file

        write_file(recipe, file, plain=plain, force=force)

    return write


def check(target: tyro.conf.Positional[str], args: str | None = None) -> Callable:
    """Says what jax.jit would lose of a function; exits with 1 where it is impure.

    Args:
      target: package.module:function, or package.module:object.method.
      args: example arguments: a Python expression, evaluated in that module.
    """

    def judge() -> None:
        from fourbeat.purity import command

        sys.exit(command.check(target, args))

    return judge


def list_runs(
    directory: tyro.conf.Positional[Path] = Path("runs"),
    sort: Literal["time", "score"] = "time",
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> Callable:
    """Lists the runs below a directory, newest first.

    Args:
      directory: where to look.
      sort: by time, the newest first, or by score, the best first.
      json: print one JSON object.
    """

    def show() -> None:
        from fourbeat.runs.listing import show_runs

        show_runs(directory, as_json=json, sort=sort)

    return show


def compare(runs: _Runs) -> Callable:
    """Compares runs in the terminal: flags that differ, best and last scores, a small curve.

    Args:
      runs: the runs' directories; latest and best are those below runs.
    """

    def show() -> None:
        from fourbeat.runs.comparison import show_comparison

        show_comparison(runs)

    return show


def report(runs: _Runs, out: Path = Path("report.html")) -> Callable:
    """Writes runs as one page: curves over each other, flags that differ, scores, confusion matrices.

    Args:
      runs: the runs' directories; latest and best are those below runs.
      out: the file; it opens in a browser without a network.
    """

    def write() -> None:
        from fourbeat.runs.report import write_report

        write_report(runs, out)

    return write


def _train_command(args: Sequence[str]) -> Callable:
    from fourbeat import runs

    config_types = {name: recipe.load("config") for name, recipe in RECIPES.items()}
    configs = [
        Annotated[config_type, tyro.conf.subcommand(name, default=_default(name, config_type, args))]
        for name, config_type in config_types.items()
    ]
    recipe_type = functools.reduce(operator.or_, configs)

    def train(recipe: Object) -> Callable:
        """Trains a recipe, and writes its run directory."""
        name = next(name for name, config_type in config_types.items() if isinstance(recipe, config_type))
        runs.check_flags(recipe)
        return lambda: RECIPES[name].load("train")(recipe)

    train.__annotations__["recipe"] = tyro.conf.OmitArgPrefixes[tyro.conf.OmitSubcommandPrefixes[recipe_type]]
    return train


def _default(name: str, config_type: type, args: Sequence[str]) -> Any:
    from fourbeat.cli.resuming import defaults

    return defaults(name, config_type, args[2:] if list(args[:2]) == ["train", name] else ())
