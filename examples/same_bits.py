"""The same bits: the MNIST training written by hand in NNX and Optax, and fourbeat's, side by side.

`python examples/same_bits.py --steps 1000` trains both on the real MNIST and prints the sha256 of all
parameters of each. The loop written by hand is `tests/oracles/mnist_cnn_by_hand.py`.
"""

import argparse
import hashlib
import sys
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


def train_by_fourbeat(num_steps: int) -> fb.TrainState:
    """The same training: the same initial values, order of the data, optimizer."""
    train, _ = fb.data.mnist()
    batches = train.batches(32, shuffle=True, seed=0, remainder="drop")
    metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())
    beats = fb.four_beats(loss_fn, optax.adamw(5e-3, b1=0.9), metrics=metrics)
    state, step = beats.init(by_hand.CNN(rngs=nnx.Rngs(0))), fb.compile(beats.train_step)
    for tick in fb.loop(batches, start=state.step, until=fb.at(steps=num_steps)):
        state, _ = step(state, tick.batch)
    return state


def sha256(params: dict) -> str:
    """One digest of all parameters, in the order of their paths."""
    return hashlib.sha256(
        b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))
    ).hexdigest()


def main() -> None:
    """Trains both and prints the table; exits with 1 where the digests differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000)
    num_steps = parser.parse_args().steps
    model, _ = by_hand.train(*by_hand.read_mnist("train"), num_steps=num_steps)
    rows = {
        "written by hand": by_hand.sha256_of_params(model),
        "fourbeat": sha256(train_by_fourbeat(num_steps).params),
    }
    print(f"{num_steps} steps on MNIST    sha256 of the parameters")
    for name, digest in rows.items():
        print(f"{name:22s} {digest}")
    if len(set(rows.values())) > 1:
        sys.exit(1)


if __name__ == "__main__":
    main()
