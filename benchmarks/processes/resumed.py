"""The program of the topologies: a run that is killed after some steps, or goes on to its end.

It is started once for each process. Each writes which examples it has read, step by step. The state is split
over all devices, so that no process holds it whole.
"""

import argparse
import dataclasses
import json
import os
import signal
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags of the run."""

    out: Path
    steps: int
    resume: str = "latest"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--kill-at", type=int, default=0, help="the step at which the last process is killed")
    flags = parser.parse_args()

    import jax
    import numpy as np
    import optax
    from flax import nnx

    import fourbeat as fb
    from fourbeat.runs import RunDirectory

    if os.environ["JAX_NUM_PROCESSES"] != "1":
        fb.distributed.initialize(heartbeat_s=20)
    index, last = fb.distributed.process_index(), fb.distributed.num_processes() - 1
    beats, make_model, batches = parts(fb, nnx, np, optax)
    mesh = fb.mesh(fsdp=len(jax.devices()))
    state = beats.init(make_model, mesh=mesh, shard=fb.shard.fsdp(min_size=1))
    step, mark, seen = fb.compile(beats.train_step, mesh=mesh), fb.every(steps=SAVE_EVERY), {}
    with RunDirectory.open("topologies", Config(flags.out, STEPS)) as run:
        state = run.restore(state)
        begin = int(state.step)
        for tick in run.loop(batches, start=state.step, save=mark):
            read = tick.batch["number"]
            state, logs = step(state, tick.batch)
            if tick.step % 10 == 0:
                run.log(tick.step, {"loss": float(logs["loss"])})
            run.save(tick, state)
            shards = read.addressable_shards if isinstance(read, jax.Array) else []
            own = [np.asarray(shard.data) for shard in shards if shard.replica_id == 0]
            seen[tick.step] = np.concatenate(own or [np.asarray(read)]).tolist()
            if tick.step == flags.kill_at:
                (flags.out / f"seen-{begin}-{index}.json").write_text(json.dumps(seen))
                fb.distributed.barrier("written")
                if index == last:
                    os.kill(os.getpid(), signal.SIGKILL)
    (flags.out / f"seen-{begin}-{index}.json").write_text(json.dumps(seen))


STEPS, SAVE_EVERY, ROWS, BATCH = 60, 8, 256, 24  # an epoch has 10 steps and leaves 16 rows out


def parts(fb, nnx, np, optax):
    """What is trained, of the same values in every process: the beats, what makes the model, the batches."""

    class MLP(nnx.Module):
        def __init__(self, rngs):
            self.up, self.down = nnx.Linear(16, 32, rngs=rngs), nnx.Linear(32, 8, rngs=rngs)

        def __call__(self, x):
            return self.down(nnx.relu(self.up(x)))

    def loss_fn(model, batch):
        return optax.softmax_cross_entropy_with_integer_labels(model(batch["x"]), batch["y"])

    random = np.random.default_rng(0)
    rows = fb.data.Arrays(
        x=random.normal(size=(ROWS, 16)).astype(np.float32),
        y=random.integers(0, 8, ROWS).astype(np.int32),
        number=np.arange(ROWS, dtype=np.int32),
    )
    batches = rows.batches(BATCH, shuffle=True, seed=0, remainder="drop", resident=False)
    return fb.four_beats(loss_fn, optax.adam(1e-2)), lambda: MLP(nnx.Rngs(0)), batches


if __name__ == "__main__":
    main()
