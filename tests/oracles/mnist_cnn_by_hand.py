"""The MNIST training written by hand in JAX, Flax and Optax: what fourbeat is held against.

Nothing of fourbeat is imported. `python tests/oracles/mnist_cnn_by_hand.py 1000` prints the sha256 of the
parameters after 1,000 steps, and the time.
"""

import gzip
import hashlib
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

FILES = Path(__file__).parents[2] / "src" / "fourbeat" / "data" / "mnist_files"


class CNN(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 32, kernel_size=(3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, kernel_size=(3, 3), rngs=rngs)
        self.avg_pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.linear1 = nnx.Linear(3136, 256, rngs=rngs)
        self.linear2 = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        x = self.avg_pool(nnx.relu(self.conv1(x)))
        x = self.avg_pool(nnx.relu(self.conv2(x)))
        x = x.reshape(x.shape[0], -1)
        return self.linear2(nnx.relu(self.linear1(x)))


def read_mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 in [0, 1] of shape (n, 28, 28, 1), labels int32; `part` is "train" or "t10k"."""
    images = gzip.decompress((FILES / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FILES / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    labels = np.frombuffer(labels, np.uint8, offset=8)
    return images.astype(np.float32) / 255, labels.astype(np.int32)


def batch_examples(num_examples: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """The examples of batch `step`: shuffled anew each epoch, the short last batch dropped."""
    steps_per_epoch = num_examples // batch_size
    epoch, place = divmod(step, steps_per_epoch)
    order = np.random.RandomState([seed, epoch]).permutation(num_examples)
    return order[place * batch_size : (place + 1) * batch_size]


def loss_fn(model, images, labels):
    logits = model(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits


@nnx.jit
def train_step(model, optimizer, images, labels):
    (loss, _), grads = nnx.value_and_grad(loss_fn, has_aux=True)(model, images, labels)
    optimizer.update(model, grads)
    return loss


def train(images, labels, *, num_steps: int, batch_size: int = 32, seed: int = 0, tx=None):
    """The model after `num_steps`, and the loss of each step."""
    model = CNN(rngs=nnx.Rngs(seed))
    model.train()
    optimizer = nnx.Optimizer(model, tx or optax.adamw(5e-3, b1=0.9), wrt=nnx.Param)
    losses = []
    for step in range(num_steps):
        examples = batch_examples(len(images), batch_size, seed, step)
        losses.append(train_step(model, optimizer, jnp.array(images[examples]), jnp.array(labels[examples])))
    return model, [float(loss) for loss in losses]


def sha256_of_params(model) -> str:
    """One digest of all parameters, in the order of their paths."""
    leaves = jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()


if __name__ == "__main__":
    start = time.perf_counter()
    images, labels = read_mnist("train")
    model, _ = train(images, labels, num_steps=int(sys.argv[1]))
    print(sha256_of_params(model), f"{time.perf_counter() - start:.1f} s")
