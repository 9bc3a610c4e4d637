"""`fourbeat predict` for a run on pictures: the class of each, with probabilities."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

import fourbeat as fb
from fourbeat.data.readers.picture_formats import SUFFIXES
from fourbeat.recipes.bad_files import report
from fourbeat.recipes.pictures.decoding import decoded, for_each
from fourbeat.recipes.pictures.finding import pictures_in
from fourbeat.recipes.probabilities import softmax
from fourbeat.recipes.telling import print_json, say_run
from fourbeat.recipes.trained import Step, load
from fourbeat.runs.printing import printable, show_table

_BATCH_SIZE = 64  # always the same, so that other pictures in the call change no bit of a prediction
_MOST_CLASSES = 3  # in a line


def predict(run: Path, files: Sequence[Path], step: Step, *, as_json: bool) -> None:
    """Prints the class of each picture, with the probabilities of the likeliest ones; as JSON with all.

    Args:
      run: its directory.
      files: pictures, or folders of these, which are searched through.
      step: which checkpoint.
      as_json: one JSON object instead of a table.
    """
    if not files:
        raise ValueError("predict needs pictures: fourbeat predict RUN FILE...")
    found, problems = _found(files)
    if not found:
        report(problems)
    trained = load(run, step, mode="max")
    recipe, config = trained.recipe, trained.config
    pictures = []
    results = for_each(partial(decoded, size=config.size), found, config.workers)
    for file, result in zip(found, results, strict=True):
        if isinstance(result, ValueError):
            problems[str(file)] = str(result)
        else:
            pictures.append((file, result))
    if not pictures:
        report(problems)
    data = fb.data.Arrays(image=np.stack([pixels for _, pixels in pictures])).map(recipe.to_float)
    logits = fb.predictor(trained.beats)(recipe.averaged(trained.state), data.batches(_BATCH_SIZE))
    probabilities = softmax(logits)
    named = [(str(file), row) for (file, _), row in zip(pictures, probabilities, strict=True)]
    if as_json:
        predictions = [
            {
                "image": name,
                "class": config.classes[row.argmax()],
                "probabilities": {c: round(float(p), 7) for c, p in zip(config.classes, row, strict=True)},
            }
            for name, row in named
        ]
        print_json(trained, predictions=predictions, not_read=problems)
    else:
        say_run(trained, f"each picture seen as {config.size[0]} x {config.size[1]}")
        _show(named, config.classes)
    report(problems)


def _found(paths: Sequence[Path]) -> tuple[list[Path], dict[str, str]]:
    """The files, those of folders by name; and what is wrong with a path."""
    found: list[Path] = []
    problems = {}
    for path in paths:
        try:
            inside = pictures_in(path) if path.is_dir() else [path]
        except ValueError as error:
            problems[str(path)] = str(error)
            continue
        if not inside:
            problems[str(path)] = f"the folder {path} holds no picture: no {', '.join(SUFFIXES)}."
        found.extend(inside)
    return found, problems


def _show(named: Sequence[tuple[str, np.ndarray]], classes: Sequence[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("image", "class", "probability", "then", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, row in named:
        first, *others = np.argsort(-row, kind="stable")[:_MOST_CLASSES]
        then = ", ".join(f"{classes[place]} {row[place]:.4f}" for place in others)
        cells = (printable(name), printable(classes[first]), f"{row[first]:.4f}", printable(then))
        table.add_row(*map(Text, cells))
    show_table(table)
