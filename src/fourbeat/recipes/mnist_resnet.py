"""A residual network on MNIST, with augmentation: the whole loop in one file, to copy and own."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

import fourbeat as fb
from fourbeat import runs
from fourbeat.compiling import eigen_convolutions
from fourbeat.recipes.digits import make_test_metrics

HELD_OUT = 5_000  # of the 60,000 training images: scored after each epoch, never trained on
MAX_SHIFT = 2.0  # pixels, up or down and left or right
MAX_ANGLE = 0.2  # radians: 11 degrees
MAX_SCALE = 0.1  # a digit is made up to 10 % smaller or larger


@dataclasses.dataclass(frozen=True)
class MnistResNet:
    """Trains a residual network on MNIST with augmentation: about 99.6 % in 8,580 steps."""

    out: Path | None = None
    """The run's own directory; by default runs/mnist-resnet/<time>."""
    steps: Annotated[int, runs.at_least(1, below=2**31)] = 8_580
    """Training steps; with batches of 128, an epoch is 429 of them."""
    batch_size: Annotated[int, runs.at_least(1)] = 128
    """Images in a batch."""
    seed: Annotated[int, runs.at_least(0, below=2**32)] = 0
    """Seed of the initial values, the order of the data, the augmentation and the dropout."""
    width: Annotated[int, runs.at_least(1)] = 16
    """Channels of the first stage; each of the other two has twice those of the one before."""
    dropout: Annotated[float, runs.at_least(0, below=1)] = 0.2
    """The share of the features that dropout sets to 0 before the last layer, in training."""
    learning_rate: Annotated[float, runs.at_least(0)] = 1e-2
    """The peak of the learning rate: it warms up for a fifth of the steps and then falls along a cosine."""
    weight_decay: Annotated[float, runs.at_least(0)] = 1e-2
    """Weight decay of AdamW, on kernels alone."""
    log_every: Annotated[int, runs.at_least(1)] = 50
    """Log the loss of the batch every so many steps."""
    log: tuple[str, ...] = ()
    """Log there too: tensorboard, wandb, mlflow, trackio, or module:name of a callable of your own."""
    save_every: Annotated[int, runs.at_least(1)] | None = None
    """Save a checkpoint every so many steps, and not only after each epoch."""
    resume: str | None = None
    """Go on with a run: its directory, "best", or "latest": that of --out or else the newest one."""
    max_seconds: Annotated[float, runs.above(0)] | None = None
    """Save and stop after so much time; --resume goes on."""

    @property
    def exact_on_resume(self) -> frozenset[str]:
        """Flags that may change on resume: at the same step the run is still the same."""
        return frozenset({"log", "log_every", "save_every"})


class ResidualBlock(nnx.Module):
    """Two convolutions, each with BatchNorm, and the input added to what they give."""

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
    """Conv 5 x 5, three residual blocks at 14, 7 and 4 pixels, the mean over all pixels, Linear 10."""

    def __init__(self, width: int = 16, dropout: float = 0.2, *, rngs: nnx.Rngs):
        self.stem = nnx.Conv(1, width, (5, 5), strides=2, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.block1 = ResidualBlock(width, width, 1, rngs=rngs)
        self.block2 = ResidualBlock(width, 2 * width, 2, rngs=rngs)
        self.block3 = ResidualBlock(2 * width, 4 * width, 2, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.linear = nnx.Linear(4 * width, 10, rngs=rngs)

    def __call__(self, x):
        """Logits (batch, 10) of images (batch, 28, 28, 1)."""
        x = nnx.relu(self.norm(self.stem(x)))
        x = self.block3(self.block2(self.block1(x)))
        return self.linear(self.dropout(x.mean(axis=(1, 2))))


def augment(batch, key):
    """Each image shifted, turned and scaled at random; runs inside the compiled step."""
    draw = jax.random.uniform(key, (len(batch["image"]), 4), minval=-1, maxval=1)
    shift, angle, scale = MAX_SHIFT * draw[:, :2], MAX_ANGLE * draw[:, 2], 1 + MAX_SCALE * draw[:, 3]
    return {**batch, "image": jax.vmap(moved)(batch["image"], shift, angle, scale)}


def moved(image, shift, angle, scale):
    """One image (height, width, 1), scaled and turned about its centre and then shifted; zeros come in.

    Each pixel of the result looks up where it comes from, and takes the mean of the four pixels there,
    each by how near it is.

    Args:
      image: float32.
      shift: (2,), pixels down and pixels to the right.
      angle: radians, anticlockwise.
      scale: above 1 makes the digit larger.
    """
    height, width, _ = image.shape
    row, column = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    down, right = row - (height - 1) / 2 - shift[0], column - (width - 1) / 2 - shift[1]
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    row = cos * down + sin * right + (height - 1) / 2
    column = cos * right - sin * down + (width - 1) / 2
    return jax.scipy.ndimage.map_coordinates(image[..., 0], [row, column], order=1)[..., None]


def loss_fn(model, batch):
    """Cross-entropy of each image; the logits go on to the metrics."""
    logits = model(batch["image"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return loss, {"logits": logits, "labels": batch["label"]}


def make_optimizer(config: MnistResNet) -> optax.GradientTransformation:
    """AdamW under one cycle of the learning rate."""
    warmup = max(config.steps // 5, 1)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, max(config.steps, warmup + 1)
    )
    return optax.adamw(rate, weight_decay=config.weight_decay, mask=is_kernel)


def is_kernel(params):
    """A tree like `params`: True for kernels, False for what is a vector: biases and the scales of norms."""
    return jax.tree.map(lambda param: param.ndim > 1, params)


def make_metrics() -> fb.metrics.Collection:
    """What is measured as it learns."""
    return fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())


def make_beats(config: MnistResNet) -> fb.Beats:
    """Forward, loss, gradient, update, as the flags ask for."""
    return fb.four_beats(loss_fn, make_optimizer(config), metrics=make_metrics(), predict=predict)


def make_state(config: MnistResNet, beats: fb.Beats, mesh: Mesh | None = None) -> fb.TrainState:
    """The state that training begins with."""
    model = ResNet(config.width, config.dropout, rngs=nnx.Rngs(config.seed))
    return beats.init(model, key=config.seed, mesh=mesh)


def make_batches(config: MnistResNet) -> tuple[fb.data.Batches, fb.data.Batches, fb.data.Batches]:
    """Batches to train on, to evaluate on each epoch, and of the test set, seen once at the end.

    Only the images to train on are augmented.
    """
    train_data, test_data = fb.data.mnist()
    train_data, valid_data = train_data.split(HELD_OUT, seed=config.seed)
    train_data = train_data.map(augment)
    return (
        train_data.batches(config.batch_size, shuffle=True, seed=config.seed, remainder="drop"),
        valid_data.batches(config.batch_size),
        test_data.batches(config.batch_size),
    )


def open_run(config: MnistResNet) -> runs.RunDirectory:
    """The run's directory: a new one, or that of the run to go on with."""
    return runs.RunDirectory.open(
        "mnist-resnet",
        config,
        exact=config.exact_on_resume,
        command="fourbeat train mnist-resnet",
        score="eval_accuracy",
    )


def train(config: MnistResNet) -> fb.TrainState:
    """Trains, prints, writes the run directory; returns the final state."""
    runs.check_flags(config)
    train_batches, valid_batches, test_batches = make_batches(config)
    beats = make_beats(config)
    mesh = runs.training_mesh(config.batch_size)  # of all processes
    state = make_state(config, beats, mesh)
    step = fb.compile(beats.train_step, mesh=mesh, compiler_options=eigen_convolutions())
    evaluate = fb.evaluator(beats)
    log, epoch_end = fb.every(steps=config.log_every), fb.every(epochs=1) | fb.at(steps=config.steps)
    save = epoch_end if config.save_every is None else epoch_end | fb.every(steps=config.save_every)

    with open_run(config) as run:
        state = run.restore(state)
        run.show_model(state)
        loop = run.loop(train_batches, start=state.step, marks=[log, epoch_end], save=save)
        for tick in (bar := fb.progress(loop)):
            state, logs = step(state, tick.batch)
            if log in tick:
                run.log(tick.step, {"batch": {"loss": logs["loss"]}})
            if epoch_end in tick:
                scores = evaluate(state, loop.interruptible(valid_batches))
                if not loop.unfinished:
                    seen, state = state.pop_metrics()
                    run.log(tick.step, {"train": seen, "eval": scores})
                    bar.show(train_accuracy=seen["accuracy"], eval_accuracy=scores["accuracy"])
                    runs.say_scores(tick.step, train=seen, eval=scores)
            run.save(tick, state)
        if run.is_complete:
            report(run, beats, state, test_batches)
    return state


def predict(model, batch):
    """Logits of a batch of images."""
    return model(batch["image"])


def report(
    run: runs.RunDirectory, beats: fb.Beats, state: fb.TrainState, test_batches: fb.data.Batches
) -> None:
    """Scores the whole test set, once; prints, plots, and marks the run as finished."""
    scores = fb.evaluator(beats, make_test_metrics())(state, test_batches)
    result, last_step = {name: scores[name] for name in ("loss", "accuracy")}, int(state.step)
    run.log(last_step, {"test": {**result, "confusion": scores["confusion"]}})
    run.figure(last_step, "curves", runs.figures.curves(run.history()))
    run.figure(last_step, "confusion_matrix", runs.figures.confusion_matrix(scores["confusion"]))
    run.finish(result)
    runs.show_end(run, "evaluate", "predict")
