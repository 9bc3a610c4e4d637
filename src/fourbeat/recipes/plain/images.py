"""A residual network on pictures of your own in plain JAX, Flax and Optax: the whole training in one file.

    python train.py photos

`photos` holds a folder of pictures for each class: photos/cat/1.png, photos/dog/a.jpg.

Read it from top to bottom: the pictures, the augmentation, the model, the loss, the optimizer, one step of
training, evaluation, the loop. It needs `jax`, `flax`, `optax`, `numpy` and `pillow`.
"""

import argparse
import hashlib
import math
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from PIL import Image, ImageOps

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2",
    ".avif",
)  # fmt: skip
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")
HELD_OUT = 0.2  # of each class: scored now and then, and never trained on
MAX_SHIFT = 0.07  # of the side, up or down and left or right
MAX_ANGLE = 0.2  # radians: 11 degrees
MAX_SCALE = 0.1  # a picture is made up to 10 % smaller or larger
UNBALANCED = 2  # times the pictures of the rarest class that the commonest has, from which they are weighed


# 1. The pictures. Every one is seen in the same size; pixels are bytes until they are used.


def find_pictures(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of the class folders, and the names of the classes."""
    classes = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    inside = [sorted((folder / name).rglob("[!.]*")) for name in classes]
    return [file for files in inside for file in files if file.suffix.lower() in SUFFIXES], classes


def as_shown(picture):
    """A picture turned as its camera says, in 8 bits, with grey for what is transparent."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits
        levels = np.asarray(picture).astype(np.int64).clip(0, 65_535)
        return Image.fromarray((levels if levels.max() <= 255 else levels // 257).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture
    ground = Image.new("RGBA", picture.size, (128, 128, 128, 255))
    return Image.alpha_composite(ground, picture.convert("RGBA"))


def read_picture(file: Path, size: tuple[int, int, int]) -> np.ndarray:
    """A picture as the network sees it: uint8 of shape (height, width, channels)."""
    height, width, channels = size
    with Image.open(file) as opened:
        if opened.format == "JPEG":  # a large one is decoded at a half, a quarter or an eighth: faster
            opened.draft(None, (2 * max(size), 2 * max(size)))
        shown = as_shown(opened).convert("L" if channels == 1 else "RGB")
        if shown.size != (width, height):
            shown = shown.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(shown).reshape(size)


def has_colours(picture) -> bool:
    """Whether a picture is more than grey; the palette of one that has a palette may be grey."""
    if picture.mode == "P":
        return bool(np.ptp(np.reshape(picture.getpalette(), (-1, 3)), axis=1).any())
    return picture.mode not in GREY_MODES


def choose_size(files: list[Path]) -> tuple[int, int, int]:
    """About the size of the middle picture: multiples of 8, the longer side at most 128."""
    heights, widths, has_colour = [], [], False
    for file in files:
        try:
            with Image.open(file) as opened:
                is_turned = opened.getexif().get(0x0112) in (5, 6, 7, 8)
                width, height = opened.size[::-1] if is_turned else opened.size
                has_colour = has_colour or has_colours(opened)
        except OSError:
            continue  # it is named when it is read
        heights.append(height)
        widths.append(width)
    middle = [sorted(sides)[len(sides) // 2] for sides in (heights, widths)]
    scale = min(1.0, 128 / max(middle))
    height, width = (max(8 * round(side * scale / 8), 16) for side in middle)
    return height, width, 3 if has_colour else 1


def read_pictures(folder: Path, size=None):
    """Pixels, labels and the names of the classes. What cannot be read is named, and copies are."""
    files, classes = find_pictures(folder)
    size = size or choose_size(files)
    read, seen = [], {}
    for file in files:
        try:
            pixels = read_picture(file, size)
        except (OSError, ValueError, SyntaxError) as error:
            print(f"left out: {file}: {error}")
            continue
        alike = seen.setdefault(hashlib.sha256(pixels.tobytes()).hexdigest(), [])
        alike.append(file)
        read.append((file, pixels, alike))
    images, labels = [], []
    for file, pixels, alike in read:
        label_of = lambda other: other.relative_to(folder).parts[0]
        if len(set(map(label_of, alike))) > 1:
            print(f"left out: {file}: the same picture is in another class")
        elif file != alike[0]:
            print(f"left out: {file}: it is a copy of {alike[0]}")
        else:
            images.append(pixels)
            labels.append(classes.index(label_of(file)))
    return np.stack(images), np.array(labels, np.int32), classes


def split_off(labels: np.ndarray, num_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The examples to train on and those held out: a share of each class, chosen by the seed."""
    is_held_out = np.zeros(len(labels), bool)
    for label in range(num_classes):
        mine = np.flatnonzero(labels == label)
        if len(mine) < 2:
            raise SystemExit(
                f"class {label} has {len(mine)} pictures; it needs one to train on and one to hold out"
            )
        number = min(max(round(HELD_OUT * len(mine)), 1), len(mine) - 1)
        is_held_out[mine[np.random.RandomState([seed, label]).permutation(len(mine))[:number]]] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


@lru_cache(maxsize=1)
def order_of_pass(num_examples: int, seed: int, number: int) -> np.ndarray:
    """The order in which one pass over the data visits its examples."""
    return np.random.RandomState([seed, number]).permutation(num_examples)


def training_examples(num_examples: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """The examples of the batch of one step; the short batch at the end of a pass is left out."""
    number, place = divmod(step, num_examples // batch_size)
    return order_of_pass(num_examples, seed, number)[place * batch_size : (place + 1) * batch_size]


def class_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """What a picture of each class counts: the rarer the more, where they are unequal; else 1."""
    counts = np.bincount(labels, minlength=num_classes)
    if counts.max() < UNBALANCED * counts.min():
        return np.ones(num_classes, np.float32)
    return (counts.sum() / (num_classes * counts)).astype(np.float32)


# 2. The augmentation. A picture that is moved a little shows the same, so each is moved at random each time
# that it is seen. Mixing two pictures, and what is right for them, keeps the network from being too sure.


def key_of(seed: int, step: int, purpose: int) -> jax.Array:
    """The random key of one step for one purpose: the same whenever this very step is taken."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), purpose)


def augment(images, key):
    """Each picture shifted, turned and scaled at random."""
    draw = jax.random.uniform(key, (len(images), 4), minval=-1, maxval=1)  # four numbers a picture
    sides = jnp.array(images.shape[1:3])
    shift, angle, scale = MAX_SHIFT * sides * draw[:, :2], MAX_ANGLE * draw[:, 2], 1 + MAX_SCALE * draw[:, 3]
    return jax.vmap(moved)(images, shift, angle, scale)


def moved(image, shift, angle, scale):
    """One picture, scaled and turned about its centre and then shifted; the edges are drawn out."""
    height, width, _ = image.shape
    row, column = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    down, right = row - (height - 1) / 2 - shift[0], column - (width - 1) / 2 - shift[1]
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    places = [cos * down + sin * right + (height - 1) / 2, cos * right - sin * down + (width - 1) / 2]
    look_up = partial(jax.scipy.ndimage.map_coordinates, coordinates=places, order=1, mode="nearest")
    return jax.vmap(look_up, in_axes=-1, out_axes=-1)(image)


def mix(alpha, batch, key):
    """Each picture, its target and its weight mixed with those of another; the larger share is its own."""
    of_share, of_order = jax.random.split(key)
    share = jax.random.beta(of_share, alpha, alpha, (len(batch[0]),))
    share, other = jnp.maximum(share, 1 - share), jax.random.permutation(of_order, len(share))

    def mixed(values):
        own = share.reshape((-1,) + (1,) * (values.ndim - 1))
        return own * values + (1 - own) * values[other]

    return [mixed(values) for values in batch]


# 3. The model. Creating it draws the initial parameters; calling it is the forward pass. BatchNorm makes the
# mean of each channel 0 and its variance 1: those of the batch in training, running means of them in
# evaluation. Dropout sets features to 0 at random, in training alone.


class ResidualBlock(nnx.Module):
    """Two convolutions, each with BatchNorm, and the input added to what they give."""

    def __init__(self, num_in: int, num_out: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(num_in, num_out, (3, 3), strides=stride, use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(num_out, momentum=0.9, rngs=rngs)
        self.conv2 = nnx.Conv(num_out, num_out, (3, 3), use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(num_out, momentum=0.9, rngs=rngs)
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
    """A convolution, stages of residual blocks, the mean over all pixels, a linear layer."""

    def __init__(self, channels, classes, *, stages, blocks, width, dropout, rngs: nnx.Rngs):
        self.stem = nnx.Conv(channels, width, (5, 5), strides=2, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        layers, num_in = [], width
        for stage in range(stages):
            num_out = width * 2**stage
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(ResidualBlock(num_in, num_out, stride, rngs=rngs))
                num_in = num_out
        self.layers = nnx.List(layers)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.linear = nnx.Linear(num_in, classes, rngs=rngs)

    def __call__(self, x):
        """A number (logit) for each class and picture: the larger, the more likely that class."""
        x = nnx.relu(self.norm(self.stem(x)))
        for layer in self.layers:
            x = layer(x)
        return self.linear(self.dropout(x.mean(axis=(1, 2))))


# 4. The loss: how surprised the model is by what is right, averaged over the batch.


def loss_fn(model, images, targets, weights):
    """The mean of the weighted cross-entropies, and the logits for the accuracy."""
    logits = model(images)
    return (optax.softmax_cross_entropy(logits, targets) * weights).mean(), logits


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


# 6. One step of training, compiled when it is first called. Beside the model lies an average of its
# parameters over the steps, which is a better model than the last one.


def train_step(setting, graphdef, state, average, images, labels, keys, number):
    """Augmentation, forward, loss, gradient, update, and the average moved a little towards the result."""
    mixup, decay, weights = setting
    weights = jnp.asarray(weights, jnp.float32)
    model, optimizer = nnx.merge(graphdef, state)
    images = augment(images.astype(jnp.float32) / 255, keys[0])
    targets, weight = jax.nn.one_hot(labels, len(weights)), weights[labels]
    if mixup:
        images, targets, weight = mix(mixup, [images, targets, weight], keys[1])
    (loss, logits), grads = nnx.value_and_grad(loss_fn, has_aux=True)(model, images, targets, weight)
    optimizer.update(model, grads)
    # at first the average is that of few steps, and later one in which a step's share falls by `decay`
    number = number.astype(jnp.float32)
    rate = jnp.maximum((1 - decay) / -jnp.expm1((number + 1) * math.log(decay)), 9 / (10 + number))
    rate = jnp.where(number == 0, 1, rate)
    move = lambda old, param: jnp.where(number == 0, param, old + rate * (param - old))
    average = jax.tree.map(move, average, nnx.state(model, nnx.Param))
    return nnx.state((model, optimizer)), average, loss, (logits.argmax(-1) == labels).mean()


def compiled(step):
    """The step as `jax.jit` makes it.

    On CPU, XLA is told to take its convolutions from Eigen: by itself it chooses others, which take longer.
    """
    fusions = "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    is_on_cpu = jax.default_backend() == "cpu"
    options = {"xla_cpu_experimental_ynn_fusion_type": fusions} if is_on_cpu else {}
    return jax.jit(step, static_argnums=(0, 1), compiler_options=options)


# 7. Evaluation: forward and loss, and nothing learnt.


@nnx.jit
def losses_and_guesses(model, images, labels):
    """The loss of each picture, and the class that the model takes it for."""
    logits = model(images.astype(jnp.float32) / 255)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels), logits.argmax(-1)


def evaluate(model, images, labels, batch_size: int) -> dict:
    """Mean loss and accuracy, of every picture once, and the accuracy in which all classes count alike.

    The last batch is filled up with pictures that are left out again, so that one compiled function does.
    """
    model.eval()  # running means in BatchNorm, no dropout
    losses, guesses = [], []
    for start in range(0, len(images), batch_size):
        places = np.arange(start, start + batch_size) % len(images)
        loss, guess = losses_and_guesses(model, images[places], labels[places])
        losses.append(loss)
        guesses.append(guess)
    model.train()
    losses, guesses = (np.concatenate(values)[: len(images)] for values in (losses, guesses))
    is_right = guesses == labels
    balanced = np.mean([is_right[labels == label].mean() for label in np.unique(labels)])
    return {"loss": losses.mean(), "accuracy": is_right.mean(), "balanced_accuracy": balanced}


def in_words(scores: dict) -> str:
    """The scores in a line."""
    return " ".join(f"{name} {value:.4f}" for name, value in scores.items())


# 8. The loop.


def train(
    folder: Path,
    *,
    steps=None,
    batch_size=64,
    seed=0,
    size=None,
    stages=None,
    blocks=1,
    width=None,
    dropout=0.2,
    mixup=0.0,
    learning_rate=5e-3,
    weight_decay=1e-2,
    ema=0.999,
    eval_every=None,
) -> tuple[ResNet, list[str]]:
    """Trains, prints the scores now and then, and returns the averaged model and the names of the classes."""
    images, labels, classes = read_pictures(folder, size)
    kept, held_out = split_off(labels, len(classes), seed)
    train_images, train_labels, valid = images[kept], labels[kept], (images[held_out], labels[held_out])
    batch_size = min(batch_size, len(kept))
    steps_per_epoch = len(kept) // batch_size
    steps = steps or max(30 * steps_per_epoch, 600)
    eval_every = eval_every or max(steps_per_epoch, -(-steps // 50))
    height, width_of_pictures, channels = images.shape[1:]
    stages = stages or max(round(math.log2(min(height, width_of_pictures) / 2 / 4)) + 1, 1)
    weights = class_weights(train_labels, len(classes))
    print(f"{len(kept)} pictures to train on, {len(held_out)} held out, seen as {images.shape[1:]}")

    shape = {"stages": stages, "blocks": blocks, "width": width or (16 if channels == 1 else 32)}
    model = ResNet(channels, len(classes), **shape, dropout=dropout, rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, make_optimizer(steps, learning_rate, weight_decay), wrt=nnx.Param)
    graphdef, state = nnx.split((model, optimizer))
    average = nnx.state(model, nnx.Param)
    step_once = compiled(train_step)
    setting = (mixup, ema, tuple(map(float, weights)))

    losses, accuracies = [], []  # of each step since the last evaluation; they stay on the device
    for step in range(steps):
        batch = training_examples(len(kept), batch_size, seed, step)
        pixels, truth = jnp.array(train_images[batch]), jnp.array(train_labels[batch])
        keys = [key_of(seed, step, purpose) for purpose in (1, 3)]
        state, average, loss, accuracy = step_once(
            setting, graphdef, state, average, pixels, truth, keys, np.int32(step)
        )
        losses.append(loss)
        accuracies.append(accuracy)

        if (step + 1) % eval_every == 0 or step + 1 == steps:
            seen = {"loss": np.mean(losses), "accuracy": np.mean(accuracies)}
            nnx.update((model, optimizer), state)
            nnx.update(model, average)
            scores = evaluate(model, *valid, batch_size)
            print(f"step {step + 1:5d}   train {in_words(seen)}   eval {in_words(scores)}")
            losses, accuracies = [], []
    return model, classes


def save(model, file: Path) -> None:
    """Parameters and running means as arrays by name: `np.load(file)["stem.kernel"]`."""
    state = nnx.to_pure_dict(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    leaves, _ = jax.tree.flatten_with_path(state)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    arrays = {name: np.asarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}
    np.savez(file, allow_pickle=False, **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Trains a residual network on pictures in class folders.", allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="holds a folder of pictures for each class")
    parser.add_argument("--out", type=Path, default=Path("parameters.npz"))
    parser.add_argument("--steps", type=int, help="by default 30 epochs, and 600 at least")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--size", type=int, nargs=3, help="height, width, channels; by default chosen")
    parser.add_argument("--stages", type=int, help="each of half the side; by default chosen")
    parser.add_argument("--blocks", type=int, default=1, help="residual blocks in a stage")
    parser.add_argument("--width", type=int, help="channels of the first stage; by default chosen")
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--mixup", type=float, default=0.0, help="0.2 is usual")
    parser.add_argument("--learning-rate", type=float, default=5e-3, help="at its peak")
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--ema", type=float, default=0.999, help="decay of the average of the parameters")
    parser.add_argument("--eval-every", type=int, help="steps; by default an epoch")
    flags = vars(parser.parse_args())
    out = flags.pop("out")
    flags["size"] = flags["size"] and tuple(flags["size"])
    trained, names = train(**flags)
    save(trained, out)
    print(f"parameters written to {out}; the classes are {', '.join(names)}")
