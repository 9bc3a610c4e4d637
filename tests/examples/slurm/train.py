"""A small training of several processes, as a user writes it. At `--preempt-at` its job is preempted."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fourbeat as fb
from fourbeat.cli import run_file
from fourbeat.runs import RunDirectory

RATE = 0.05


@dataclasses.dataclass(frozen=True)
class Config:
    out: Path | None = None
    resume: str | None = None
    steps: int = 60
    preempt_at: int = 0


def make_batches():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(64, 3)).astype(np.float32)
    data = fb.data.Arrays(x=x, y=x @ np.array([1.0, -2.0, 0.5], np.float32))
    return data.batches(8, shuffle=True, seed=0)


def loss_fn(model, batch):
    return (batch["x"] @ model["w"] - batch["y"]) ** 2


def train(config):
    fb.distributed.initialize()
    mesh = fb.mesh(data=jax.device_count())
    beats = fb.four_beats(loss_fn, optax.sgd(RATE))
    state = beats.init({"w": jnp.zeros(3)}, mesh=mesh)
    step = fb.compile(beats.train_step, mesh=mesh)
    with RunDirectory.open("small", config, exact=frozenset({"preempt_at"})) as run:
        state = run.restore(state)
        for tick in run.loop(make_batches(), start=state.step):
            state, logs = step(state, tick.batch)
            run.log(tick.step, {"loss": logs["loss"]})
            if tick.step == config.preempt_at and jax.process_index() == 0:
                os.kill(int(os.environ["BATCH_PID"]), signal.SIGTERM)
                while not run.stop.is_requested:  # until the signal has come back to this process
                    time.sleep(0.01)
            run.save(tick, state)
        if run.is_complete:
            run.finish(
                {f"w{place}": value for place, value in enumerate(np.asarray(state.params["w"]).tolist())}
            )


if __name__ == "__main__":
    run_file("small", Config, train)
