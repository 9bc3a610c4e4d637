"""A residual network on MNIST in plain JAX, Flax and Optax: the whole training in one file that is yours.

    python train.py --steps 8580

Read it from top to bottom: the data, the augmentation, the model, the loss, the optimizer, one step of
training, evaluation, the loop. It needs `jax`, `flax`, `optax` and `numpy`, and the four files of MNIST in
the folder `mnist` beside it.
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

HELD_OUT = 5_000  # of the 60,000 training images: they are scored after each epoch, and never trained on
MAX_SHIFT = 2.0  # pixels, up or down and left or right
MAX_ANGLE = 0.2  # radians: 11 degrees
MAX_SCALE = 0.1  # a digit is made up to 10 % smaller or larger


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


# 2. The augmentation. A digit that is moved a little is the same digit, so each image is moved at random
# each time that it is seen: the model never sees one twice, and learns what does not depend on the move.


def augmentation_key(seed: int, step: int) -> jax.Array:
    """The random key of one step's augmentation: the same whenever this very step is taken.

    `fold_in` makes a new key of a key and a number. The 1 keeps these random numbers apart from others that
    a step may want: a second augmentation would take a 2.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 1)


def augment(images, key):
    """Each image shifted, turned and scaled at random."""
    draw = jax.random.uniform(key, (len(images), 4), minval=-1, maxval=1)  # four numbers an image
    shift, angle, scale = MAX_SHIFT * draw[:, :2], MAX_ANGLE * draw[:, 2], 1 + MAX_SCALE * draw[:, 3]
    return jax.vmap(moved)(images, shift, angle, scale)  # `moved` is for one image; `vmap` makes it for many


def moved(image, shift, angle, scale):
    """One image, scaled and turned about its centre and then shifted; zeros come in at the edges.

    Each pixel of the result looks up where it comes from, and takes the mean of the four pixels there,
    each by how near it is.
    """
    height, width, _ = image.shape
    row, column = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    down, right = row - (height - 1) / 2 - shift[0], column - (width - 1) / 2 - shift[1]
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    row = cos * down + sin * right + (height - 1) / 2
    column = cos * right - sin * down + (width - 1) / 2
    return jax.scipy.ndimage.map_coordinates(image[..., 0], [row, column], order=1)[..., None]


# 3. The model. Creating it draws the initial parameters; calling it is the forward pass. BatchNorm makes the
# mean of each channel 0 and its variance 1: those of the batch in training, running means of them in
# evaluation. Dropout sets features to 0 at random, in training alone.


class ResidualBlock(nnx.Module):
    """Two convolutions, each with BatchNorm, and the input added to what they give.

    So the block begins near to passing its input on, and learns what to change of it.
    """

    def __init__(self, num_in: int, num_out: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(num_in, num_out, (3, 3), strides=stride, use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(num_out, rngs=rngs)
        self.conv2 = nnx.Conv(num_out, num_out, (3, 3), use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(num_out, rngs=rngs)
        # where the shape changes, the input is added through a convolution of 1 x 1
        fits = (num_in, stride) == (num_out, 1)
        project = partial(nnx.Conv, num_in, num_out, (1, 1), strides=stride, use_bias=False)
        self.shortcut = None if fits else project(rngs=rngs)

    def __call__(self, x):
        """(batch, height, width, num_in) to (batch, height / stride, width / stride, num_out)."""
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    """A convolution, three residual blocks at 14, 7 and 4 pixels, the mean over all pixels, a linear one."""

    def __init__(self, width: int, dropout: float, *, rngs: nnx.Rngs):
        self.stem = nnx.Conv(1, width, (5, 5), strides=2, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.block1 = ResidualBlock(width, width, 1, rngs=rngs)
        self.block2 = ResidualBlock(width, 2 * width, 2, rngs=rngs)
        self.block3 = ResidualBlock(2 * width, 4 * width, 2, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.linear = nnx.Linear(4 * width, 10, rngs=rngs)

    def __call__(self, x):
        """Ten numbers (logits) for each image: the larger, the more likely that digit."""
        x = nnx.relu(self.norm(self.stem(x)))
        x = self.block3(self.block2(self.block1(x)))
        return self.linear(self.dropout(x.mean(axis=(1, 2))))


# 4. The loss: how surprised the model is by the true labels, averaged over the batch.


def loss_fn(model, images, labels):
    """The mean cross-entropy, and the logits for the accuracy."""
    logits = model(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits


# 5. The optimizer: AdamW. Its learning rate rises for a fifth of the steps, and then falls to 0 along a
# cosine. Weight decay pulls the kernels, and nothing else, towards 0.


def make_optimizer(steps: int, learning_rate: float, weight_decay: float) -> optax.GradientTransformation:
    """AdamW under one cycle of the learning rate."""
    warmup = max(steps // 5, 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, max(steps, warmup + 1))
    return optax.adamw(rate, weight_decay=weight_decay, mask=is_kernel)


def is_kernel(params):
    """A tree like `params`: True for kernels, False for what is a vector: biases and the scales of norms."""
    return jax.tree.map(lambda param: param.ndim > 1, params)


# 6. One step of training. `jax.jit` compiles it when it is first called, and then it is fast. It takes the
#    numbers of model and optimizer, their state, and returns the new ones; the graphdef is all else of them.


def train_step(graphdef, state, images, labels, key):
    """Augmentation, forward, loss, gradient, update."""
    model, optimizer = nnx.merge(graphdef, state)
    images = augment(images, key)
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


# 7. Evaluation: forward and loss, and nothing learnt.


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
    model.eval()  # running means in BatchNorm, no dropout
    loss, right = 0.0, 0.0
    for start in range(0, len(images), batch_size):
        places = np.arange(start, start + batch_size)
        is_real = places < len(images)
        places = places % len(images)
        batch_loss, batch_right = count_right(model, images[places], labels[places], is_real)
        loss, right = loss + float(batch_loss), right + float(batch_right)
    model.train()
    return loss / len(images), right / len(images)


# 8. The loop.


def train(
    folder: Path,
    *,
    steps=8_580,
    batch_size=128,
    seed=0,
    width=16,
    dropout=0.2,
    learning_rate=1e-2,
    weight_decay=1e-2,
) -> ResNet:
    """Trains, prints the scores of each epoch and those of the test set, and returns the model."""
    images, labels = read_mnist(folder, "train")
    kept, held_out = split_off(len(images), HELD_OUT, seed)
    train_images, train_labels = images[kept], labels[kept]
    valid_images, valid_labels = images[held_out], labels[held_out]
    steps_per_epoch = len(train_images) // batch_size

    model = ResNet(width, dropout, rngs=nnx.Rngs(seed))
    tx = make_optimizer(steps, learning_rate, weight_decay)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    graphdef, state = nnx.split((model, optimizer))
    step_once = compiled(train_step)

    losses, accuracies = [], []  # of each step since the last evaluation; they stay on the device
    for step in range(steps):
        batch = training_examples(len(train_images), batch_size, seed, step)
        images, labels = jnp.array(train_images[batch]), jnp.array(train_labels[batch])
        key = augmentation_key(seed, step)
        state, loss, accuracy = step_once(graphdef, state, images, labels, key)
        losses.append(loss)
        accuracies.append(accuracy)

        steps_done = step + 1
        if steps_done % steps_per_epoch == 0 or steps_done == steps:
            seen = f"loss {np.mean(losses):.4f} accuracy {np.mean(accuracies):.4f}"
            nnx.update((model, optimizer), state)
            loss, accuracy = evaluate(model, valid_images, valid_labels, batch_size)
            print(f"step {steps_done:5d}   train {seen}   eval loss {loss:.4f} accuracy {accuracy:.4f}")
            losses, accuracies = [], []

    loss, accuracy = evaluate(model, *read_mnist(folder, "t10k"), batch_size)
    print(f"test loss {loss:.4f}   test accuracy {accuracy:.4f}")
    return model


def save(model, file: Path) -> None:
    """Parameters and running means as arrays by name: `np.load(file)["stem.kernel"]`."""
    state = nnx.to_pure_dict(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    leaves, _ = jax.tree.flatten_with_path(state)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    arrays = {name: np.asarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}
    np.savez(file, allow_pickle=False, **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Trains a residual network on MNIST.", allow_abbrev=False)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "mnist")
    parser.add_argument("--out", type=Path, default=Path("parameters.npz"))
    parser.add_argument("--steps", type=int, default=8_580)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--width", type=int, default=16, help="channels of the first block")
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--learning-rate", type=float, default=1e-2, help="at its peak")
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    flags = parser.parse_args()
    trained = train(
        flags.data,
        steps=flags.steps,
        batch_size=flags.batch_size,
        seed=flags.seed,
        width=flags.width,
        dropout=flags.dropout,
        learning_rate=flags.learning_rate,
        weight_decay=flags.weight_decay,
    )
    save(trained, flags.out)
    print(f"parameters written to {flags.out}")
