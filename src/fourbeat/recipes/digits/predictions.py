"""`fourbeat predict`: the digits in files, with probabilities."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from fourbeat.data import Arrays
from fourbeat.data.mnist_digits import image_to_float
from fourbeat.recipes.bad_files import report
from fourbeat.recipes.digits.images import Image, read_images
from fourbeat.recipes.telling import print_json, say_run
from fourbeat.recipes.trained import Step, Trained, load
from fourbeat.runs.printing import printable, say, show_table

_BATCH_SIZE = 256  # always the same, so that other images in the call change no bit of a prediction


def predict(run: Path, files: Sequence[Path], step: Step, *, as_json: bool) -> None:
    """Prints the digit in each image, with the probability of each class.

    Args:
      run: its directory.
      files: pictures and idx files, or folders of these.
      step: which checkpoint.
      as_json: one JSON object instead of a table.
    """
    if not files:
        raise ValueError("predict needs images: fourbeat predict RUN FILE...")
    images, problems = read_images(files)
    if not images:
        report(problems)
    trained = load(run, step, mode="max")
    probabilities = _probabilities(trained, images)
    if as_json:
        predictions = [_prediction(image, each) for image, each in zip(images, probabilities, strict=True)]
        print_json(trained, predictions=predictions, not_read=problems)
    else:
        say_run(trained, "under 0 to 9: probability in percent")
        for image in images:
            if image.conversion:
                say(f"{printable(image.name)}: {image.conversion}")
        _show(images, probabilities)
    report(problems)


def _probabilities(trained: Trained, images: Sequence[Image]) -> np.ndarray:
    """float32 of shape (images, 10)."""
    pixels = np.stack([image.pixels for image in images])[..., None]
    batches = Arrays(image=pixels).map(image_to_float).batches(_BATCH_SIZE)
    predict_step = jax.jit(trained.beats.predict_step)
    logits = [predict_step(trained.state, batches[place]) for place in range(len(batches))]
    return np.concatenate([np.asarray(jax.nn.softmax(each)) for each in logits])[: len(images)]


def _prediction(image: Image, probabilities: np.ndarray) -> dict:
    return {
        "image": image.name,
        "digit": int(probabilities.argmax()),
        "probabilities": [round(float(p), 7) for p in probabilities],
        "conversion": image.conversion or None,
    }


def _show(images: Sequence[Image], probabilities: np.ndarray) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("image", "digit", "probability", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for digit in range(probabilities.shape[1]):
        table.add_column(str(digit), justify="right", min_width=3)
    for image, row in zip(images, probabilities, strict=True):
        percents = [f"{100 * p:.0f}" if p >= 0.005 else "" for p in row]
        table.add_row(Text(printable(image.name)), str(row.argmax()), f"{row.max():.4f}", *percents)
    show_table(table)
