"""`fourbeat predict`: the digits in files, with probabilities."""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from fourbeat.cli.images import Image, read_images
from fourbeat.cli.trained import Step, Trained, load
from fourbeat.data import Arrays
from fourbeat.data.mnist import image_to_float

_BATCH_SIZE = 256  # whatever there is to predict, so that company changes no bit of a prediction


def predict(run: Path, files: Sequence[Path], step: Step, *, as_json: bool) -> None:
    """Prints the digit in each image, with the probability of each class.

    Args:
      run: its directory.
      files: PNG, JPEG and idx files, or folders of these.
      step: which checkpoint.
      as_json: one JSON object instead of a table.
    """
    if not files:
        raise ValueError("predict needs images: fourbeat predict RUN FILE...")
    images = read_images(files)
    trained = load(run, step)
    probabilities = _probabilities(trained, images)
    at_step = int(trained.state.step)
    if as_json:
        rows = [_row(image, row) for image, row in zip(images, probabilities, strict=True)]
        print(json.dumps({"run": str(run), "step": at_step, "predictions": rows}))
        return
    print(f"{run}   step {at_step}   under 0 to 9: probability in percent")
    for image in images:
        if image.conversion:
            print(f"{image.name}: {image.conversion}")
    _show(images, probabilities)


def _probabilities(trained: Trained, images: Sequence[Image]) -> np.ndarray:
    """float32 of shape (images, 10)."""
    pixels = np.stack([image.pixels for image in images])[..., None]
    batches = Arrays(image=pixels).map(image_to_float).batches(_BATCH_SIZE)
    predict_step = jax.jit(trained.beats.predict_step)
    logits = [predict_step(trained.state, batches[place]) for place in range(len(batches))]
    return np.concatenate([np.asarray(jax.nn.softmax(rows)) for rows in logits])[: len(images)]


def _row(image: Image, probabilities: np.ndarray) -> dict:
    return {
        "image": image.name,
        "digit": int(probabilities.argmax()),
        "probabilities": [round(float(p), 7) for p in probabilities],
        "conversion": image.conversion or None,
    }


def _show(images: Sequence[Image], probabilities: np.ndarray) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("image", "digit", "probability", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for digit in range(probabilities.shape[1]):
        table.add_column(str(digit), justify="right", min_width=3)
    for image, row in zip(images, probabilities, strict=True):
        percents = [f"{100 * p:.0f}" if p >= 0.005 else "" for p in row]
        table.add_row(Text(image.name), str(row.argmax()), f"{row.max():.4f}", *percents)
    console = Console()
    needed = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.width = max(console.width, needed)  # a terminal too narrow for a path wraps the whole line
    console.print(table)
