"""A recipe that learns the mean of the numbers in a file, for the test of the table."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import optax

import fourbeat as fb
from fourbeat import runs


@dataclasses.dataclass(frozen=True)
class Mean:
    """Learns the mean of the numbers in a file."""

    file: Annotated[Path | None, *runs.argument("FILE", "a file of numbers")] = None
    """A number a line."""
    out: Path | None = None
    """The directory."""
    steps: int = 3
    """Steps."""
    resume: str | None = None
    """Go on with a run."""


def train(config):
    beats = fb.four_beats(lambda model, batch: (model["m"] - batch["x"]) ** 2, optax.sgd(0.5))
    state, step = beats.init({"m": jnp.zeros(())}), fb.compile(beats.train_step)
    numbers = np.loadtxt(config.file, np.float32)
    batches = fb.data.Arrays(x=numbers).batches(len(numbers))
    with runs.RunDirectory.open("mean", config, score="train_loss", mode="min") as run:
        state = run.restore(state)
        for tick in run.loop(batches, start=state.step):
            state, logs = step(state, tick.batch)
            run.log(tick.step, {"train": {"loss": logs["loss"]}})
            run.save(tick, state)
        if run.is_complete:
            run.finish({"mean": float(state.model["m"])})


def evaluate(run, step, *, as_json):
    print(json.dumps({"evaluated": str(run), "step": step}))


def predict(run, files, step, *, as_json):
    print(json.dumps({"predicted": [str(file) for file in files]}))
