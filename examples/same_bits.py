"""The same bits: MNIST training by hand in NNX and Optax, by fourbeat, and by fourbeat killed five times.

`python examples/same_bits.py --steps 1000` trains on the real MNIST and prints the sha256 of all parameters
of each. The loop written by hand is `tests/oracles/mnist_cnn_by_hand.py`. The third training is a process
that saves every 20 steps, is killed with SIGKILL five times, and goes on each time from what it had saved.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx

import fourbeat as fb

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.oracles import mnist_cnn_by_hand as by_hand


def loss_fn(model, batch):
    """Cross-entropy of each image; the logits go on to the metrics."""
    logits = model(batch["image"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return loss, {"logits": logits, "labels": batch["label"]}


def train(num_steps: int, directory: str, *, show_steps: bool = False) -> str:
    """Trains, from what `directory` holds, to `num_steps`; returns the digest of the parameters."""
    train_data, _ = fb.data.mnist()
    batches = train_data.batches(32, shuffle=True, seed=0, remainder="drop")
    metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())
    beats = fb.four_beats(loss_fn, optax.adamw(5e-3, b1=0.9), metrics=metrics)
    step, save = fb.compile(beats.train_step), fb.every(steps=20)
    with fb.Checkpoints(directory) as checkpoints:
        state = checkpoints.restore_or(beats.init(by_hand.CNN(rngs=nnx.Rngs(0))))
        for tick in fb.loop(batches, start=state.step, until=fb.at(steps=num_steps), marks=[save]):
            state, _ = step(state, tick.batch)
            if save in tick:
                checkpoints.save(tick.step, state)
            if show_steps:
                print(tick.step, flush=True)
    return sha256(state.params)


def train_and_be_killed(num_steps: int, num_kills: int) -> str:
    """The same training in a process that is killed after a random number of steps, again and again."""
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, "--steps", str(num_steps), "--directory", directory]
        for _ in range(num_kills):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            for _ in range(chance.randint(1, max(num_steps // (num_kills + 1), 1))):
                process.stdout.readline()  # a step of it is done
            time.sleep(chance.uniform(0, 0.02))
            process.kill()
            process.communicate()
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]


def sha256(params: dict) -> str:
    """One digest of all parameters, in the order of their paths."""
    return hashlib.sha256(
        b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))
    ).hexdigest()


def main() -> None:
    """Trains all three and prints the table; exits with 1 where the digests differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--directory", help=argparse.SUPPRESS)  # of the process that is killed
    arguments = parser.parse_args()
    if arguments.directory:
        print(train(arguments.steps, arguments.directory, show_steps=True))
        return
    model, _ = by_hand.train(*by_hand.read_mnist("train"), num_steps=arguments.steps)
    with tempfile.TemporaryDirectory() as directory:
        rows = {
            "written by hand": by_hand.sha256_of_params(model),
            "fourbeat": train(arguments.steps, directory),
            f"fourbeat, killed {arguments.kills} times": train_and_be_killed(
                arguments.steps, arguments.kills
            ),
        }
    print(f"{arguments.steps} steps on MNIST        sha256 of the parameters")
    for name, digest in rows.items():
        print(f"{name:28s} {digest}")
    if len(set(rows.values())) > 1:
        sys.exit(1)


if __name__ == "__main__":
    main()
