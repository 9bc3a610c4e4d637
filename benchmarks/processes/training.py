"""The program of the trials: an MLP trained over the devices of all processes, and something that happens.

It is started once for each process, with the variables that Kubeflow Trainer sets.
"""

import argparse
import os
import signal
import sys
import time


def stop_this_process() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def raise_an_error() -> None:
    raise ValueError("row 17 of the table has no label")


EVENTS = {
    "kill": kill_this_process,
    "stop": stop_this_process,
    "raise": raise_an_error,
    "exit": lambda: sys.exit(3),
    "memory": lambda: bytearray(1 << 62),
    "slow": lambda: None,
    "none": lambda: None,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--event", choices=EVENTS, default="none")
    parser.add_argument("--victim", type=int, default=0)
    parser.add_argument("--step", type=int, default=20, help="at which the event happens")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--heartbeat", type=float, default=20)
    parser.add_argument("--before", choices=["devices", "nothing", "other"], default="nothing")
    parser.add_argument("--not-joined", action="store_true")
    flags = parser.parse_args()

    import jax

    import fourbeat as fb

    print(f"event {time.time()}", flush=True)
    if flags.before == "devices":
        jax.devices()
    if not flags.not_joined:
        fb.distributed.initialize(timeout_s=flags.timeout, heartbeat_s=flags.heartbeat)
    if flags.before == "other":
        fb.distributed.initialize(num_processes=5)
    train(flags)


def train(flags: argparse.Namespace) -> None:
    import numpy as np
    import optax
    from flax import nnx

    import fourbeat as fb

    class MLP(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.up = nnx.Linear(16, 32, rngs=rngs)
            self.down = nnx.Linear(32, 4, rngs=rngs)

        def __call__(self, x):
            return self.down(nnx.relu(self.up(x)))

    def loss_fn(model, batch):
        return optax.softmax_cross_entropy_with_integer_labels(model(batch["x"]), batch["y"])

    mesh = fb.mesh(data=-1)
    random = np.random.default_rng(0)
    rows = fb.data.Arrays(
        x=random.normal(size=(1024, 16)).astype(np.float32), y=random.integers(0, 4, 1024).astype(np.int32)
    )
    beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    state = beats.init(lambda: MLP(nnx.Rngs(0)), mesh=mesh)
    step = fb.compile(beats.train_step, mesh=mesh)
    batches = rows.batches(60, shuffle=True, seed=0, remainder="drop")
    for tick in fb.loop(batches, until=fb.at(steps=flags.steps)):
        if fb.distributed.process_index() == flags.victim:
            if tick.step == flags.step:
                print(f"event {time.time()}", flush=True)
                EVENTS[flags.event]()
            if flags.event == "slow" and tick.step >= flags.step:
                time.sleep(5)
        state, logs = step(state, tick.batch)
        float(logs["loss"])
    print("trained", flush=True)


if __name__ == "__main__":
    main()
