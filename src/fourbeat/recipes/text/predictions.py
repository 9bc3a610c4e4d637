"""`fourbeat predict` for a model of text: how files go on."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from fourbeat.loggers import strict_json
from fourbeat.recipes.bad_files import report
from fourbeat.recipes.trained import Step, load
from fourbeat.runs.printing import printable


def predict(run: Path, files: Sequence[Path], step: Step, *, as_json: bool) -> None:
    """Prints how the model continues the text of each file; it reads the end of it.

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
    trained = load(run, step, mode="min")
    recipe, config, at_step = trained.recipe, trained.config, int(trained.state.step)
    draw = jax.jit(trained.beats.predict_step)
    drawn = [np.asarray(draw(trained.state, recipe.prompted(config, text))) for text in texts.values()]
    predictions = [
        {"file": str(file), "prompt": text[-config.context :], "continuation": recipe.decode(tokens)}
        for (file, text), tokens in zip(texts.items(), drawn, strict=True)
    ]
    if as_json:
        print(
            strict_json.dumps({"run": run, "step": at_step, "predictions": predictions, "not_read": problems})
        )
        report(problems)
        return
    drawn_as = f"{config.sample_length} characters at temperature {config.temperature}"
    print(f"{printable(run)}   step {at_step}   {drawn_as}")
    for each in predictions:
        last_line = each["prompt"].rpartition("\n")[2]
        after = f" after {last_line!r}" if last_line.strip() else ""
        print(f"--- {printable(each['file'])} goes on{after}")
        print(last_line + each["continuation"])
    report(problems)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}.") from None
