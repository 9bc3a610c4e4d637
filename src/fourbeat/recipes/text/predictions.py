"""`fourbeat predict` for a model of text: how files go on."""

import dataclasses
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import fourbeat as fb
from fourbeat.recipes.bad_files import report
from fourbeat.recipes.telling import print_json, say_run
from fourbeat.recipes.trained import Step, load
from fourbeat.runs.printing import printable, say
from fourbeat.types import Config


class Texts(NamedTuple):
    """What the texts of a recipe are.

    Attributes:
      read: `read(config, file)` gives the text of a file.
      seen: `seen(config, text)` is its end, which the model reads.
      unit: `unit(config)` names what is drawn one by one.
      filler: what comes after the end of a text that is drawn.
    """

    read: Callable[[Config, Path], str]
    seen: Callable[[Config, str], str]
    unit: Callable[[Config], str]
    filler: int


def _read(config: Config, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}.") from None


CHARACTERS = Texts(_read, lambda config, text: text[-config.context :], lambda config: "characters", 0)


def predict(
    run: Path,
    files: Sequence[Path],
    step: Step,
    *,
    as_json: bool,
    prompts: Sequence[str] = (),
    drawing: Mapping[str, Any] = types.MappingProxyType({}),
    texts: Texts = CHARACTERS,
) -> None:
    """Prints how the model continues each prompt and the text of each file; it reads the end of it.

    All texts are drawn together, by one program. How fast is printed too.

    Args:
      run: its directory.
      files: texts.
      step: which checkpoint.
      as_json: one JSON object instead of the texts.
      prompts: texts.
      drawing: flags of the run that are to have other values, such as `temperature`.
      texts: what they are.

    Raises:
      ValueError: there is no text, or one cannot be read, or a flag cannot be.
    """
    if not files and not prompts:
        raise ValueError(
            "predict needs texts to go on with: fourbeat predict RUN FILE..., or RUN --prompt TEXT."
        )
    trained = load(run, step, mode="min")
    recipe = trained.recipe
    config = dataclasses.replace(trained.config, **drawing)
    recipe.check(config)
    known: list[tuple[Path | None, str]] = [(None, prompt) for prompt in prompts]
    problems = {}
    for file in dict.fromkeys(files):
        try:
            known.append((file, texts.read(config, file)))
        except ValueError as error:
            problems[file] = str(error)
    if not known:
        report(problems)
    batch = recipe.prompted(config, [text for _, text in known])
    drawn, speed = _timed(recipe.make_beats(config).predict_step, trained.state, batch)
    unit = texts.unit(config)
    num_drawn = int(np.count_nonzero(drawn != texts.filler))
    predictions = [
        {
            "file": None if file is None else str(file),
            "prompt": texts.seen(config, text),
            "continuation": recipe.text_of(config, tokens),
        }
        for (file, text), tokens in zip(known, drawn, strict=True)
    ]
    if as_json:
        print_json(trained, **{unit: num_drawn}, **speed, predictions=predictions, not_read=problems)
        report(problems)
        return
    say_run(trained, _drawn_as(config, unit))
    for each in predictions:
        last_line = each["prompt"].rpartition("\n")[2]
        after = f" after {last_line!r}" if last_line.strip() else ""
        say(f"--- {'the prompt' if each['file'] is None else printable(each['file'])} goes on{after}")
        print(printable(last_line + each["continuation"], keep="\n\t"))
    say(
        f"--- {num_drawn:,} {unit} in {speed['seconds']:.2f} s: {num_drawn / speed['seconds']:,.0f} a "
        f"second, after {speed['compile_seconds']:.1f} s of compiling"
    )
    if max(batch["length"]) + drawn.shape[1] > config.context + 1:
        say(f"--- after {config.context} {unit} the window moves: each then costs a whole window")
    report(problems)


def _timed(predict_step: Callable, state: fb.TrainState, batch: dict) -> tuple[np.ndarray, dict]:
    """What is drawn, and how fast."""
    began_s = time.perf_counter()
    draw = jax.jit(predict_step).lower(state, batch).compile()
    compiled_s = time.perf_counter()
    drawn = np.asarray(draw(state, batch))
    seconds = time.perf_counter() - compiled_s
    return drawn, {"seconds": seconds, "compile_seconds": compiled_s - began_s}


def _drawn_as(config: Config, unit: str) -> str:
    flags: Any = config
    words = [f"{flags.sample_length} {unit} at temperature {flags.temperature}"]
    words += [f"of the {flags.top_k} likeliest"] if flags.top_k is not None else []
    words += [f"of those that have {flags.top_p:g} together"] if flags.top_p is not None else []
    words += [f"up to {flags.stop!r}"] if flags.stop else []
    return ", ".join(words)
