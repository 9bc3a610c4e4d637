"""A line through noisy points: explicit state and a fused loop, in one file."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

import fourbeat as fb
from fourbeat import runs

TRUE_WEIGHT, TRUE_BIAS, NOISE = 2.0, -1.0, 0.5


@dataclasses.dataclass(frozen=True)
class LinearRegression:
    """Fits a line to 128 noisy points by least squares: a hundred steps in a compiled call."""

    out: Path | None = None
    """The run's own directory; by default runs/linear-regression/<time>."""
    steps: Annotated[int, runs.at_least(1, below=2**31)] = 1_000
    """Gradient steps, each over all points."""
    num_points: Annotated[int, runs.at_least(1)] = 128
    """Points to fit."""
    learning_rate: Annotated[float, runs.at_least(0)] = 0.01
    """Learning rate of plain gradient descent."""
    seed: Annotated[int, runs.at_least(0, below=2**32)] = 0
    """Seed of the points and their noise."""
    log_every: Annotated[int, runs.at_least(1)] = 100
    """Log the loss every so many steps; a compiled call ends there."""
    log: tuple[str, ...] = ()
    """Log there too: tensorboard, wandb, mlflow, trackio, or module:name of a callable of your own."""
    resume: str | None = None
    """Go on with a run: its directory, or "latest": that of --out or else the newest one."""
    max_seconds: Annotated[float, runs.above(0)] | None = None
    """Save and stop after so much time; --resume goes on."""


class Params(NamedTuple):
    """A line: weight * x + bias."""

    weight: jax.Array
    bias: jax.Array


def loss_fn(params: Params, batch):
    """The squared error of each point."""
    return (predict(params, batch) - batch["y"]) ** 2


def make_points(config: LinearRegression) -> fb.data.Arrays:
    """Points about the true line."""
    random = np.random.RandomState(config.seed)
    x = random.uniform(-2, 2, config.num_points).astype(np.float32)
    noise = NOISE * random.standard_normal(config.num_points)
    return fb.data.Arrays(x=x, y=(TRUE_WEIGHT * x + TRUE_BIAS + noise).astype(np.float32))


def predict(params: Params, batch):
    """The height of the line at each x."""
    return params.weight * batch["x"] + params.bias


def make_beats(config: LinearRegression) -> fb.Beats:
    """Forward, loss, gradient, update: plain gradient descent."""
    return fb.four_beats(loss_fn, optax.sgd(config.learning_rate), predict=predict)


def make_state(config: LinearRegression, beats: fb.Beats, mesh: Mesh | None = None) -> fb.TrainState:
    """The state that training begins with: a flat line."""
    return beats.init(Params(weight=jnp.zeros(()), bias=jnp.zeros(())), mesh=mesh)


def train(config: LinearRegression) -> fb.TrainState:
    """Fits, prints, writes the run directory; returns the final state."""
    runs.check_flags(config)
    points = make_points(config)
    batches = points.batches(config.num_points)
    beats = make_beats(config)
    mesh = runs.training_mesh(config.num_points, flag="num_points")  # of all processes
    step = fb.compile(beats.train_step, mesh=mesh)
    log = fb.every(steps=config.log_every) | fb.at(steps=config.steps)

    command = "fourbeat train linear-regression"
    with runs.RunDirectory.open("linear-regression", config, command=command) as run:
        state = run.restore(make_state(config, beats, mesh))
        begin_s = time.perf_counter()
        loop = run.loop(batches, start=state.step, marks=[log], steps_per_call=config.steps)
        for tick in loop:
            state, logs = step(state, tick.batch)
            if log in tick:
                run.log(tick.step, {"train": {"loss": logs["loss"]}})
            run.save(tick, state)
        elapsed_s = time.perf_counter() - begin_s
        if run.is_complete:
            report(run, state, points)
            print(f"{config.steps - loop.start} steps in {1e3 * elapsed_s:.1f} ms, compiling included")
            runs.show_end(run, group="fitted")
    return state


def report(run: runs.RunDirectory, state: fb.TrainState, points: fb.data.Arrays) -> None:
    """Prints and plots the line, and marks the run as finished."""
    weight, bias = (float(value) for value in state.model)
    print(f"fit   weight {weight:+.4f}   bias {bias:+.4f}")
    print(f"true  weight {TRUE_WEIGHT:+.4f}   bias {TRUE_BIAS:+.4f}   noise {NOISE}")
    figure = runs.figures.fitted_line(points.columns["x"], points.columns["y"], weight, bias)
    run.figure(int(state.step), "fit", figure)
    run.finish({"weight": weight, "bias": bias})
