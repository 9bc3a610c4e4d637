"""A small CNN on MNIST in plain JAX, Flax and Optax: the whole training in one file that is yours.

    python train.py --steps 5000

Read it from top to bottom: the data, the model, the loss, one step of training, evaluation, the loop.
It needs `jax`, `flax`, `optax` and `numpy`, and the four files of MNIST in the folder `mnist` beside it.
"""

import argparse
import gzip
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

STEPS_PER_EPOCH = 1_000
HELD_OUT = 6_400  # of the 60,000 training images: they are scored after each epoch, and never trained on


# 1. The data. Images are numbers from 0 to 1 of shape (28, 28, 1); labels are the digits from 0 to 9.


def read_mnist(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one part, "train" or "t10k" (the test set)."""
    images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    # an idx file is a header, of 16 bytes and of 8, and then the numbers, a byte each
    images = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    labels = np.frombuffer(labels, np.uint8, offset=8)
    return images.astype(np.float32) / 255, labels.astype(np.int32)


def split_off(num_examples: int, num_held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The examples to train on and those held out, chosen by the seed."""
    is_held_out = np.zeros(num_examples, bool)
    is_held_out[np.random.RandomState([seed]).permutation(num_examples)[:num_held_out]] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


@lru_cache(maxsize=1)
def order_of_pass(num_examples: int, seed: int, number: int) -> np.ndarray:
    """The order in which one pass over the data visits its examples."""
    return np.random.RandomState([seed, number]).permutation(num_examples)


def training_examples(num_examples: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """The examples of the batch of one step: every pass over the data has an order of its own.

    The short batch at the end of a pass is left out, so that every batch has the same shape, and the step
    is compiled once.
    """
    batches_in_a_pass = num_examples // batch_size
    number, place = divmod(step, batches_in_a_pass)
    order = order_of_pass(num_examples, seed, number)
    return order[place * batch_size : (place + 1) * batch_size]


# 2. The model. Creating it draws the initial parameters; calling it is the forward pass.


class CNN(nnx.Module):
    """Two convolutions, each with relu and a 2 x 2 average pool, and two linear layers."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 32, kernel_size=(3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, kernel_size=(3, 3), rngs=rngs)
        self.avg_pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.linear1 = nnx.Linear(3136, 256, rngs=rngs)
        self.linear2 = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        """Ten numbers (logits) for each image: the larger, the more likely that digit."""
        x = self.avg_pool(nnx.relu(self.conv1(x)))
        x = self.avg_pool(nnx.relu(self.conv2(x)))
        x = x.reshape(x.shape[0], -1)  # flatten
        return self.linear2(nnx.relu(self.linear1(x)))


# 3. The loss: how surprised the model is by the true labels, averaged over the batch.


def loss_fn(model, images, labels):
    """The mean cross-entropy, and the logits for the accuracy."""
    logits = model(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits


# 4. One step of training. `jax.jit` compiles it when it is first called, and then it is fast. It takes the
#    numbers of model and optimizer, their state, and returns the new ones; the graphdef is all else of them.


def train_step(graphdef, state, images, labels):
    """Forward, loss, gradient, update."""
    model, optimizer = nnx.merge(graphdef, state)
    (loss, logits), grads = nnx.value_and_grad(loss_fn, has_aux=True)(model, images, labels)
    optimizer.update(model, grads)
    return nnx.state((model, optimizer)), loss, (logits.argmax(-1) == labels).mean()


def compiled(step):
    """The step as `jax.jit` makes it.

    On CPU, XLA is told to take its convolutions from Eigen: by itself it chooses others, which take longer.
    """
    fusions = "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    is_on_cpu = jax.default_backend() == "cpu"
    options = {"xla_cpu_experimental_ynn_fusion_type": fusions} if is_on_cpu else {}
    return jax.jit(step, static_argnums=0, compiler_options=options)


# 5. Evaluation: forward and loss, and nothing learnt.


@nnx.jit
def count_right(model, images, labels, is_real):
    """The summed loss and the number of right answers among the real images of a batch."""
    logits = model(images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return (losses * is_real).sum(), ((logits.argmax(-1) == labels) * is_real).sum()


def evaluate(model, images, labels, batch_size: int) -> tuple[float, float]:
    """Mean loss and accuracy, of every image once.

    The last batch is filled up with images that count nothing, so that one compiled function serves all.
    """
    model.eval()
    loss, right = 0.0, 0.0
    for start in range(0, len(images), batch_size):
        places = np.arange(start, start + batch_size)
        is_real = places < len(images)
        places = places % len(images)
        batch_loss, batch_right = count_right(model, images[places], labels[places], is_real)
        loss, right = loss + float(batch_loss), right + float(batch_right)
    model.train()
    return loss / len(images), right / len(images)


# 6. The loop.


def train(folder: Path, *, steps=5_000, batch_size=32, seed=0, learning_rate=5e-3) -> CNN:
    """Trains, prints the scores of each epoch and those of the test set, and returns the model."""
    images, labels = read_mnist(folder, "train")
    kept, held_out = split_off(len(images), HELD_OUT, seed)
    train_images, train_labels = images[kept], labels[kept]
    valid_images, valid_labels = images[held_out], labels[held_out]

    model = CNN(rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.adamw(learning_rate, b1=0.9), wrt=nnx.Param)
    graphdef, state = nnx.split((model, optimizer))
    step_once = compiled(train_step)

    losses, accuracies = [], []  # of each step since the last evaluation; they stay on the device
    for step in range(steps):
        batch = training_examples(len(train_images), batch_size, seed, step)
        images, labels = jnp.array(train_images[batch]), jnp.array(train_labels[batch])
        state, loss, accuracy = step_once(graphdef, state, images, labels)
        losses.append(loss)
        accuracies.append(accuracy)

        steps_done = step + 1
        if steps_done % STEPS_PER_EPOCH == 0 or steps_done == steps:
            seen = f"loss {np.mean(losses):.4f} accuracy {np.mean(accuracies):.4f}"
            nnx.update((model, optimizer), state)
            loss, accuracy = evaluate(model, valid_images, valid_labels, batch_size)
            print(f"step {steps_done:5d}   train {seen}   eval loss {loss:.4f} accuracy {accuracy:.4f}")
            losses, accuracies = [], []

    loss, accuracy = evaluate(model, *read_mnist(folder, "t10k"), batch_size)
    print(f"test loss {loss:.4f}   test accuracy {accuracy:.4f}")
    return model


def save(model, file: Path) -> None:
    """The parameters as arrays by name: `np.load(file)["conv1.kernel"]`."""
    leaves, _ = jax.tree.flatten_with_path(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    arrays = {name: np.asarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}
    np.savez(file, allow_pickle=False, **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Trains a small CNN on MNIST.", allow_abbrev=False)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "mnist")
    parser.add_argument("--out", type=Path, default=Path("parameters.npz"))
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0, help="of the initial values and the order of the data")
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    flags = parser.parse_args()
    trained = train(
        flags.data,
        steps=flags.steps,
        batch_size=flags.batch_size,
        seed=flags.seed,
        learning_rate=flags.learning_rate,
    )
    save(trained, flags.out)
    print(f"parameters written to {flags.out}")
