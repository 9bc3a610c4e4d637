"""`fourbeat predict` for a corpus: how a text, or ids, go on."""

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fourbeat.recipes.corpus import spelling
from fourbeat.recipes.text import predictions
from fourbeat.recipes.trained import Step
from fourbeat.types import Config


def predict(
    run: Path,
    files: Sequence[Path],
    step: Step,
    *,
    as_json: bool,
    prompts: Sequence[str] = (),
    drawing: Mapping[str, Any] = types.MappingProxyType({}),
) -> None:
    """Prints how the model continues each prompt and each file: see `fourbeat.recipes.text.predict`."""
    texts = predictions.Texts(_read, _seen, _unit, spelling.NOT_DRAWN)
    predictions.predict(run, files, step, as_json=as_json, prompts=prompts, drawing=drawing, texts=texts)


def _read(config: Config, file: Path) -> str:
    flags = {name: getattr(config, name) for name in ("tokenizer", "num_tokens", "dtype")}
    return spelling.text_of_file(file, last=config.context, **flags)


def _seen(config: Config, text: str) -> str:
    tokens = spelling.encode(text, tokenizer=config.tokenizer, num_tokens=config.num_tokens)
    return spelling.decode(tokens[-config.context :], tokenizer=config.tokenizer).lstrip(
        " " * (config.tokenizer == "none")
    )


def _unit(config: Config) -> str:
    return "bytes" if config.tokenizer == "bytes" else "ids"
