"""`fourbeat export`: a run's model as files for those who serve it, each compared with the model itself."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fourbeat as fb
from fourbeat.recipes.columns.layout import Layout
from fourbeat.recipes.telling import say_run
from fourbeat.recipes.trained import Step, Trained, load
from fourbeat.runs.printing import printable
from fourbeat.types import Batch

Format = Literal["stablehlo", "onnx", "safetensors"]
_EXAMPLES = 32


class Exported(NamedTuple):
    """What is exported of a run.

    Attributes:
      trained: the run.
      beats: what predicts, in the precision of the run.
      predict: what they predict, `predict(model, batch)`, for files that compute in float32.
      example: a batch.
      classes: the names of the last axis of the outputs, or None.
      notes: what else the signature says, as JSON has it.
    """

    trained: Trained
    beats: fb.Beats
    predict: Callable[[Any, Any], Any]
    example: Batch
    classes: tuple[str, ...] | None
    notes: dict[str, Any] | None = None


def digits(run: Path, step: Step) -> Exported:
    """Logits of images as uint8, (batch, 28, 28, 1)."""
    trained = load(run, step, mode="max")
    example = fb.data.mnist()[1][:_EXAMPLES].batches(_EXAMPLES)[0]
    classes = tuple(map(str, range(10)))
    return Exported(trained, trained.beats, trained.recipe.predict, example, classes)


def text(run: Path, step: Step) -> Exported:
    """Logits of the token after each token of a window, uint8 of shape (batch, context)."""
    trained = load(run, step, mode="min")
    recipe, config = trained.recipe, trained.config
    predict = lambda model, batch: model(batch["text"].astype(jnp.int32))
    beats = fb.four_beats(recipe.loss_fn, optax.identity(), predict=predict, precision=config.precision)
    tokens = np.random.default_rng(0).integers(2, recipe.NUM_TOKENS, (_EXAMPLES, config.context), np.uint8)
    classes = ("<start>", "<unknown>", *recipe.CHARACTERS)
    return Exported(trained, beats, predict, {"text": tokens}, classes)


def pictures(run: Path, step: Step) -> Exported:
    """Logits of pictures of the run's size, uint8 of shape (batch, height, width, channels)."""
    trained = load(run, step, mode="max")
    config = trained.config
    trained = trained._replace(state=trained.recipe.averaged(trained.state))
    pixels = np.random.default_rng(0).integers(0, 256, (_EXAMPLES, *config.size), np.uint8)
    data = fb.data.Arrays(image=pixels).map(trained.recipe.to_float)
    return Exported(
        trained, trained.beats, trained.recipe.predict, data.batches(_EXAMPLES)[0], config.classes
    )


def corpus(run: Path, step: Step) -> Exported:
    """Logits of the token after each token of a window of one document, int32 of shape (batch, context)."""
    trained = load(run, step, mode="min")
    recipe, config = trained.recipe, trained.config
    predict = lambda model, batch: model(batch["tokens"])
    beats = fb.four_beats(recipe.loss_fn, optax.identity(), predict=predict, precision=config.precision)
    tokens = np.random.default_rng(0).integers(config.num_tokens, size=(_EXAMPLES, config.context))
    return Exported(trained, beats, predict, {"tokens": tokens.astype(np.int32)}, None)


def line(run: Path, step: Step) -> Exported:
    """The height of the line at each x, (batch,)."""
    trained = load(run, step, mode="min")
    x = np.linspace(-2, 2, _EXAMPLES, dtype=np.float32)
    return Exported(trained, trained.beats, trained.recipe.predict, {"x": x}, None)


def table(run: Path, step: Step) -> Exported:
    """Logits of classes, or numbers, of rows as the signature's notes say how to read them."""
    trained, layout = load(run, step, mode="min"), Layout.read(run)
    return Exported(
        trained,
        trained.beats,
        trained.recipe.predict,
        layout.example(_EXAMPLES),
        layout.target.classes or None,
        layout.notes(),
    )


def export(what: Exported, to: Path, form: Format) -> None:
    """Writes the files, and prints their names, their sizes, and the largest difference to the model.

    Args:
      what: from one of the functions here.
      to: a folder; a new one for "stablehlo".
      form: "stablehlo" for the folder of `fb.models.save`; "onnx" for model.onnx; "safetensors" for the
        weights alone.

    Raises:
      ValueError: a file is there already, or computes something else.
      ImportError: what ONNX needs is not installed.
    """
    state, was_there = what.trained.state, to.exists()
    files, against, difference = [], "the model", 0.0
    try:
        if form == "stablehlo":
            if os.path.lexists(to):
                raise ValueError(f"{to} is there already. Choose another --to.")
            signed = {"classes": what.classes, "notes": what.notes}
            fb.models.save(to, state, predict=what.beats, example=what.example, **signed)
            files, against = sorted(to.iterdir()), "fb.predictor"
            outputs = fb.models.load(to).predict(what.example)
            difference = _largest(outputs, jax.jit(what.beats.predict_step)(state, what.example))
        elif form == "onnx":
            files = [to / "model.onnx"]
            difference = fb.models.save_onnx(files[0], state, predict=what.predict, example=what.example)
            against = "JAX, of what onnxruntime computes in float32"
        else:
            files = [to / "weights.safetensors"]
            fb.models.save_weights(files[0], state)
            model, _ = fb.models.load_weights(state.model, files[0])
            difference = _largest(fb.split(model)[1:], fb.split(state.model)[1:])
    except BaseException:
        if not was_there:
            shutil.rmtree(to, ignore_errors=True)
        raise
    say_run(what.trained, form)
    for file in files:
        print(f"{printable(file)}   {file.stat().st_size:,} bytes")
    print(f"largest difference to {against}: {difference:.3g}")


def _largest(one: Any, other: Any) -> float:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    wide = ((np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs)
    return max(float(np.max(np.abs(a - b), initial=0)) for a, b in wide)
