"""`fourbeat evaluate` and `fourbeat predict` for a model of text: held-out files, and how files go on."""

import math
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

import fourbeat as fb
from fourbeat import strict_json
from fourbeat.cli.bad_files import report
from fourbeat.cli.trained import Step, load
from fourbeat.runs.screen import printable, show_table


def evaluate(run: Path, step: Step, *, as_json: bool) -> None:
    """Prints loss and perplexity of a character, for each held-out file and for all of them.

    Args:
      run: its directory.
      step: which checkpoint.
      as_json: one JSON object instead of a table.
    """
    trained = load(run, step)
    config = trained.config
    _, files = trained.recipe.read_files(config)
    evaluator = fb.evaluator(trained.beats, trained.recipe.make_metrics())

    rows = []
    for name, tokens in files.items():
        windows = trained.recipe.make_windows({name: tokens}, config.context)
        # gathered on the host, so that files of every size share a program
        scores = evaluator(trained.state, windows.batches(config.batch_size, resident=False))
        rows.append({"file": name, "characters": len(tokens), **scores})
    characters, at_step = [row["characters"] for row in rows], int(trained.state.step)
    loss = float(np.average([row["loss"] for row in rows], weights=characters))
    scores = {"characters": sum(characters), "loss": loss, "perplexity": _exp(loss)}
    if as_json:
        print(strict_json.dumps({"run": run, "step": at_step, **scores, "files": rows}))
        return
    seen = f"{scores['characters']:,} characters in {len(rows)} held-out files"
    print(f"{printable(run)}   step {at_step}   {seen}")
    _show(rows)
    print(f"held out loss {scores['loss']:.4f}   perplexity {scores['perplexity']:.4f}")


def predict(run: Path, files: Sequence[Path], step: Step, *, as_json: bool) -> None:
    """Prints how the model goes on with the text of each file, of which it reads the end.

    Args:
      run: its directory.
      files: texts.
      step: which checkpoint.
      as_json: one JSON object instead of the texts.

    Raises:
      ValueError: there is no file, or one cannot be read.
    """
    if not files:
        raise ValueError("predict needs texts to go on with: fourbeat predict RUN FILE...")
    texts, problems = {}, {}
    for file in dict.fromkeys(files):
        try:
            texts[file] = _read(file)
        except ValueError as error:
            problems[file] = str(error)
    if not texts:
        report(problems)
    trained = load(run, step)
    recipe, config, at_step = trained.recipe, trained.config, int(trained.state.step)
    draw = jax.jit(trained.beats.predict_step)
    drawn = [np.asarray(draw(trained.state, recipe.prompted(config, text))) for text in texts.values()]
    rows = [
        {"file": str(file), "prompt": text[-config.context :], "continuation": recipe.decode(tokens)}
        for (file, text), tokens in zip(texts.items(), drawn, strict=True)
    ]
    if as_json:
        print(strict_json.dumps({"run": run, "step": at_step, "predictions": rows, "not_read": problems}))
        report(problems)
        return
    drawn_as = f"{config.sample_length} characters at temperature {config.temperature}"
    print(f"{printable(run)}   step {at_step}   {drawn_as}")
    for row in rows:
        last_line = row["prompt"].rpartition("\n")[2]
        after = f" after {last_line!r}" if last_line.strip() else ""
        print(f"--- {printable(row['file'])} goes on{after}")
        print(last_line + row["continuation"])
    report(problems)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}.") from None


def _show(rows: Sequence[dict]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("file", box=None, pad_edge=False)
    for name in ("characters", "loss", "perplexity"):
        table.add_column(name, justify="right")
    for row in rows:
        scores = (f"{row[name]:.4f}" for name in ("loss", "perplexity"))
        table.add_row(Text(printable(row["file"])), f"{row['characters']:,}", *scores)
    show_table(table)


def _exp(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
