"""A run with everything that resuming could get wrong; also a process of its own, to be killed.

`python -m tests.resumable_run DIRECTORY [stop_at]` runs it, going on with what is in the directory, and
prints the digest of all that it ends with.
"""

import dataclasses
import functools
import hashlib
import os
import sys
from pathlib import Path

import jax
import numpy as np
import optax

import fourbeat as fb
from fourbeat.runs import RunDirectory
from tests.kinds import KINDS

NUM_STEPS = 23
STEPS_PER_EPOCH = 7
KIND = KINDS["cnn"]


@dataclasses.dataclass(frozen=True)
class Config:
    out: Path
    steps: int
    resume: str | None = "latest"


def augment(batch, key):
    """Noise: data that depends on the step's key."""
    noise = 0.1 * jax.random.normal(key, batch["x"].shape)
    return {**batch, "x": batch["x"] + noise}


def make_data(num_examples=61):
    columns = KIND.batch(0, num_examples)
    columns["x"][13:14] = np.nan  # every batch with example 13 is a bad one, which the guard skips
    return fb.data.Arrays(id=np.arange(num_examples), **columns).map(augment)


@functools.cache
def make_beats():
    """Accumulation, float16 loss scaling, EMA and a guard over BatchNorm and Dropout; compiled once."""

    def loss_fn(model, batch):
        loss, logits = KIND.items(model, batch)
        return loss, {"logits": logits, "labels": batch["label"]}

    metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())
    beats = fb.four_beats(
        loss_fn,
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2)),
        metrics=metrics,
        accumulate=2,
        precision="float16",
        guard=fb.guard.skip(),
        ema=0.9,
    )
    return beats, fb.compile(beats.train_step), fb.evaluator(beats)


def train(directory, *, stop_at=None, save_every=1):
    """Runs, or goes on; returns the digest of the end, or None where it was stopped before."""
    beats, step, evaluate = make_beats()
    data = make_data()
    batches = data.batches(8, shuffle=True, seed=1, remainder="drop")
    valid_batches = make_data(13).batches(4)
    config = Config(Path(directory), steps=NUM_STEPS if stop_at is None else stop_at)
    epoch_end, save = fb.every(epochs=1), fb.every(steps=save_every)
    with RunDirectory.open("everything", config, score="eval_loss", mode="min") as run:
        state, stopping, plateau = run.restore(
            beats.init(KIND.make(0), key=3),
            fb.EarlyStopping(patience=100),
            fb.ReduceOnPlateau(0.5, patience=1),
        )
        for tick in run.loop(batches, start=state.step, marks=[epoch_end], save=save):
            ids = np.asarray(tick.batch["id"]).tolist()
            state, logs = step(state, tick.batch)
            run.log(tick.step, {"train": {"ids": ids, "loss": repr(float(logs["loss"]))}})
            if epoch_end in tick:
                seen, state = state.pop_metrics()
                score = evaluate(state, valid_batches)["loss"]
                stopping, plateau = stopping.update(score), plateau.update(score)
                state = state.replace(lr_scale=plateau.scale)
                run.log(tick.step, {"train": seen, "eval": {"loss": score}})
            run.save(tick, state, stopping, plateau)
    if int(state.step) < NUM_STEPS:
        return None
    leaves = jax.tree.leaves((state, stopping, plateau))
    history = (run.path / "metrics.jsonl").read_bytes()
    values = b"".join(np.asarray(leaf).tobytes() for leaf in leaves)
    return hashlib.sha256(values + history).hexdigest()


if __name__ == "__main__":
    print(os.getpid(), flush=True)
    print(train(sys.argv[1], stop_at=int(sys.argv[2]) if len(sys.argv) > 2 else None), flush=True)
