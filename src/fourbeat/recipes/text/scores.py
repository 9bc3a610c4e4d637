"""`fourbeat evaluate` for a model of text: loss and perplexity of each held-out file."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import fourbeat as fb
from fourbeat.recipes.telling import print_json, say_run
from fourbeat.recipes.trained import Step, load
from fourbeat.runs.printing import printable, say, show_table


def evaluate(run: Path, step: Step, *, as_json: bool) -> None:
    """Prints loss and perplexity of a character, for each held-out file and for all of them.

    Args:
      run: its directory.
      step: which checkpoint.
      as_json: one JSON object instead of a table.
    """
    trained = load(run, step, mode="min")
    config = trained.config
    _, files, _ = trained.recipe.read_files(config)
    evaluator = fb.evaluator(trained.beats, trained.recipe.make_metrics())

    by_file = []
    for name, tokens in files.items():
        windows = trained.recipe.make_windows({name: tokens}, config.context)
        # gathered on the host, so that files of every size share a program
        scores = evaluator(trained.state, windows.batches(config.batch_size, resident=False))
        by_file.append({"file": name, "characters": len(tokens), **scores})
    characters = [each["characters"] for each in by_file]
    loss = float(np.average([each["loss"] for each in by_file], weights=characters))
    scores = {"characters": sum(characters), "loss": loss, "perplexity": _exp(loss)}
    if as_json:
        print_json(trained, **scores, files=by_file)
        return
    say_run(trained, f"{scores['characters']:,} characters in {len(by_file)} held-out files")
    _show(by_file)
    say(f"held out loss {scores['loss']:.4f}", f"perplexity {scores['perplexity']:.4f}")


def _show(by_file: Sequence[dict]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("file", box=None, pad_edge=False)
    for name in ("characters", "loss", "perplexity"):
        table.add_column(name, justify="right")
    for each in by_file:
        scores = (f"{each[name]:.4f}" for name in ("loss", "perplexity"))
        table.add_row(Text(printable(each["file"])), f"{each['characters']:,}", *scores)
    show_table(table)


def _exp(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
