"""A line through noisy points: explicit state and a fused loop, in one file."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fourbeat as fb
from fourbeat import runs

TRUE_WEIGHT, TRUE_BIAS, NOISE = 2.0, -1.0, 0.5


@dataclasses.dataclass(frozen=True)
class LinearRegression:
    """Fits a line to 128 noisy points by least squares: 1,000 steps in one compiled call."""

    out: Path | None = None
    """The run's own directory; by default runs/linear-regression/<time>."""
    steps: Annotated[int, runs.at_least(1, below=2**31)] = 1_000
    """Gradient steps, each over all points."""
    num_points: Annotated[int, runs.at_least(1)] = 128
    """Points to fit."""
    learning_rate: Annotated[float, runs.at_least(0)] = 0.01
    """Of plain gradient descent."""
    seed: Annotated[int, runs.at_least(0, below=2**32)] = 0
    """Of the points and their noise."""


class Params(NamedTuple):
    """A line: weight * x + bias."""

    weight: jax.Array
    bias: jax.Array


def loss_fn(params: Params, batch):
    """The squared error of each point."""
    return (params.weight * batch["x"] + params.bias - batch["y"]) ** 2


def make_points(config: LinearRegression) -> fb.data.Arrays:
    """Points about the true line."""
    random = np.random.RandomState(config.seed)
    x = random.uniform(-2, 2, config.num_points).astype(np.float32)
    noise = NOISE * random.standard_normal(config.num_points)
    return fb.data.Arrays(x=x, y=(TRUE_WEIGHT * x + TRUE_BIAS + noise).astype(np.float32))


def train(config: LinearRegression) -> fb.TrainState:
    """Fits, prints, writes the run directory; returns the final state."""
    runs.check_flags(config)
    points = make_points(config)
    batches = points.batches(config.num_points)

    beats = fb.four_beats(loss_fn, optax.sgd(config.learning_rate))
    step = fb.compile(beats.train_step)
    log = fb.every(fraction=0.1)

    def fit() -> tuple[fb.TrainState, list]:
        state = beats.init(Params(weight=jnp.zeros(()), bias=jnp.zeros(())))
        losses = []
        until = fb.at(steps=config.steps)
        for tick in fb.loop(batches, until=until, marks=[log], steps_per_call=config.steps):
            state, logs = step(state, tick.batch)
            if log in tick:
                losses.append((tick.step, logs["loss"]))
        return jax.block_until_ready(state), losses

    fit()  # compiles
    start = time.perf_counter()
    state, losses = fit()
    elapsed_s = time.perf_counter() - start

    with runs.RunDirectory.open("linear-regression", config) as run:
        for at_step, loss in losses:
            run.log(at_step, train={"loss": float(loss)})

        line = state.model
        print(f"fit   weight {float(line.weight):+.4f}   bias {float(line.bias):+.4f}")
        print(f"true  weight {TRUE_WEIGHT:+.4f}   bias {TRUE_BIAS:+.4f}   noise {NOISE}")
        print(f"{config.steps} steps in {1e3 * elapsed_s:.1f} ms")
        figure = runs.figures.fitted_line(
            points.columns["x"], points.columns["y"], float(line.weight), float(line.bias)
        )
        run.save_figure("fit", figure)
        run.finish({"weight": float(line.weight), "bias": float(line.bias)})
        print(f"written to {run.path}")
    return state
