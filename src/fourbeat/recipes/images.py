"""A residual network on pictures of your own: the whole loop in one file, to copy and own."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

import fourbeat as fb
from fourbeat import runs
from fourbeat.compiling import eigen_convolutions
from fourbeat.recipes.pictures import (
    EXPECTED,
    PictureSet,
    default_workers,
    make_held_out_metrics,
    network_for,
    read_pictures,
    write_mistakes,
)
from fourbeat.runs.printing import printable

MAX_SHIFT = 0.07  # of the side, up or down and left or right: 2 of 28 pixels
MAX_ANGLE = 0.2  # radians: 11 degrees
MAX_SCALE = 0.1  # a picture is made up to 10 % smaller or larger
UNBALANCED = 2  # times the pictures of the rarest class that the commonest has, from which they are weighed
EPOCHS, LEAST_STEPS = 30, 600  # of training, where --steps says nothing
MOST_DRAWN = 40  # classes, up to which a confusion matrix can be read


@dataclasses.dataclass(frozen=True)
class Images:
    """Trains a residual network on pictures of your own, in a folder for each class or in a list."""

    directory: Annotated[Path | None, *runs.argument("DIR", EXPECTED)] = None
    """Holds a folder of pictures for each class, or train, valid and test that do; or a CSV file."""
    out: Path | None = None
    """The run's own directory; by default runs/images/<time>."""
    steps: Annotated[int, runs.at_least(1, below=2**31)] | None = None
    """Training steps; by default 30 epochs, and 600 at least."""
    batch_size: Annotated[int, runs.at_least(1)] | None = None
    """Pictures in a batch; by default 64, or as many as there are to train on."""
    seed: Annotated[int, runs.at_least(0, below=2**32)] = 0
    """Seed of what is held out, the initial values, the order of the data, augmentation and dropout."""
    held_out: Annotated[float, runs.above(0, at_most=0.9)] = 0.2
    """The share of each class that is held out to be scored, where the data has no part for it."""
    classes: tuple[str, ...] = ()
    """The names of the classes; by default those that there are."""
    size: tuple[int, int, int] | None = None
    """Height, width and channels of what the network sees; by default chosen for the pictures."""
    stages: Annotated[int, runs.at_least(1)] | None = None
    """Stages of the network, each of half the side; by default chosen for the size."""
    blocks: Annotated[int, runs.at_least(1)] | None = None
    """Residual blocks in a stage; by default 1, and 2 from 20,000 pictures on."""
    width: Annotated[int, runs.at_least(1)] | None = None
    """Channels of the first stage, and twice as many in each further one; by default 16, for colours 32."""
    dropout: Annotated[float, runs.at_least(0, below=1)] = 0.2
    """The share of the features that dropout sets to 0 before the last layer, in training."""
    augment: bool = True
    """Move each picture a little whenever it is seen in training: shifted, turned, scaled."""
    flip: bool = False
    """Mirror half of the pictures too: for things that have no left and right, as letters have."""
    mixup: Annotated[float, runs.at_least(0)] = 0.0
    """Train on mixes of two pictures; their shares are drawn from Beta(mixup, mixup), 0.2 being usual."""
    class_weights: Literal["balanced", "none"] | None = None
    """Weigh rare classes more, in training alone; by default where one has twice the pictures of another."""
    learning_rate: Annotated[float, runs.at_least(0)] = 5e-3
    """The peak of the learning rate: it warms up for a fifth of the steps and then falls along a cosine."""
    weight_decay: Annotated[float, runs.at_least(0)] = 1e-2
    """Weight decay of AdamW, on kernels alone."""
    ema: Annotated[float, runs.above(0, at_most=0.99999)] = 0.999
    """Decay of the average of the parameters, which is what is evaluated and exported."""
    precision: Literal["float32", "bfloat16"] | None = None
    """What layers compute in; by default bfloat16, and float32 on CPU, which has no faster bfloat16."""
    workers: Annotated[int, runs.at_least(1)] = default_workers()
    """Threads that decode pictures."""
    eval_every: Annotated[int, runs.at_least(1)] | None = None
    """Evaluate and save every so many steps; by default each epoch, and at most 50 times."""
    log_every: Annotated[int, runs.at_least(1)] = 50
    """Log the loss of the batch every so many steps."""
    log: tuple[str, ...] = ()
    """Log there too: tensorboard, wandb, mlflow, trackio, or module:name of a callable of your own."""
    save_every: Annotated[int, runs.at_least(1)] | None = None
    """Save a checkpoint every so many steps, and not only after each evaluation."""
    resume: str | None = None
    """Go on with a run: its directory, "best", or "latest": that of --out or else the newest one."""
    max_seconds: Annotated[float, runs.above(0)] | None = None
    """Save and stop after so much time; --resume goes on."""

    @property
    def exact_on_resume(self) -> frozenset[str]:
        """Flags that may change on resume: at the same step the run is still the same."""
        return frozenset({"log", "log_every", "save_every", "workers"})


def read(config: Images) -> tuple[Images, PictureSet]:
    """The pictures, and the flags with what is chosen for them in the place of None."""
    pictures = read_pictures(
        Path(config.directory or "").absolute(), held_out=config.held_out, seed=config.seed,
        workers=config.workers, size=config.size, classes=config.classes,
    )  # fmt: skip
    counts = pictures.counts("train")
    network = network_for(pictures.size, counts.sum())
    batch_size = config.batch_size or int(min(64, counts.sum()))
    steps_per_epoch = max(int(counts.sum()) // batch_size, 1)
    steps = config.steps or max(EPOCHS * steps_per_epoch, LEAST_STEPS)
    is_unbalanced = counts.max() >= UNBALANCED * counts.min()
    return dataclasses.replace(
        config,
        directory=pictures.path,
        classes=pictures.classes,
        size=pictures.size,
        stages=config.stages or network.stages,
        blocks=config.blocks or network.blocks,
        width=config.width or network.width,
        batch_size=batch_size,
        steps=steps,
        eval_every=config.eval_every or max(steps_per_epoch, -(-steps // 50)),
        class_weights=config.class_weights or ("balanced" if is_unbalanced else "none"),
        precision=config.precision or ("float32" if jax.default_backend() == "cpu" else "bfloat16"),
    ), pictures


def say_chosen(config: Images, pictures: PictureSet) -> None:
    """Says what there is, and what was chosen for it."""
    parts = {"train on": "train", "evaluate": "valid", "test": "test"}
    sizes = [f"{len(pictures.part(name)):,} to {what}" for what, name in parts.items()]
    runs.say(f"{len(pictures.data):,} pictures of {len(pictures.classes)} classes: {', '.join(sizes)}")
    (height, width, channels), (middle_height, middle_width) = pictures.size, pictures.middle
    runs.say(
        f"seen as {height} x {width} in {'grey' if channels == 1 else 'colour'} (the middle one is "
        f"{middle_height} x {middle_width}); {config.stages} stages of {config.blocks} from {config.width} "
        f"channels; {config.steps:,} steps of {config.batch_size}; {config.precision}"
    )
    if config.class_weights == "balanced":
        weights = class_weights(pictures.counts("train"))
        rare, common = weights.argmax(), weights.argmin()
        ends = [f"{weights[at]:.3g} for {printable(pictures.classes[at])}" for at in (common, rare)]
        runs.say(f"class weights from {ends[0]} to {ends[1]}")


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
    """Conv 5 x 5 of stride 2, stages of residual blocks, the mean over all pixels, Dropout, Linear."""

    def __init__(self, channels, classes, *, stages, blocks, width, dropout=0.2, rngs: nnx.Rngs):
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
        """Logits (batch, classes) of pictures (batch, height, width, channels)."""
        x = nnx.relu(self.norm(self.stem(x)))
        for layer in self.layers:
            x = layer(x)
        return self.linear(self.dropout(x.mean(axis=(1, 2))))


def to_float(batch):
    """Pixels from 0 to 1; runs inside the compiled step, as all that is mapped."""
    return {**batch, "image": batch["image"].astype(jnp.float32) / 255}


def augment(batch, key):
    """Each picture shifted, turned and scaled at random."""
    draw = jax.random.uniform(key, (len(batch["image"]), 4), minval=-1, maxval=1)
    sides = jnp.array(batch["image"].shape[1:3])
    shift, angle, scale = MAX_SHIFT * sides * draw[:, :2], MAX_ANGLE * draw[:, 2], 1 + MAX_SCALE * draw[:, 3]
    return {**batch, "image": jax.vmap(moved)(batch["image"], shift, angle, scale)}


def moved(image, shift, angle, scale):
    """One picture (height, width, channels), scaled and turned about its centre and then shifted.

    Each pixel of the result looks up where it comes from, and takes the mean of the four pixels there,
    each by how near it is. From beyond an edge comes what lies at the edge.
    """
    height, width, _ = image.shape
    row, column = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    down, right = row - (height - 1) / 2 - shift[0], column - (width - 1) / 2 - shift[1]
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    places = [cos * down + sin * right + (height - 1) / 2, cos * right - sin * down + (width - 1) / 2]
    look_up = partial(jax.scipy.ndimage.map_coordinates, coordinates=places, order=1, mode="nearest")
    return jax.vmap(look_up, in_axes=-1, out_axes=-1)(image)


def flip(batch, key):
    """Half of the pictures mirrored, left to right."""
    is_flipped = jax.random.bernoulli(key, shape=(len(batch["image"]), 1, 1, 1))
    return {**batch, "image": jnp.where(is_flipped, batch["image"][:, :, ::-1], batch["image"])}


def add_targets(weights, batch):
    """The probability of each class, and how much each picture counts: for training alone."""
    target = jax.nn.one_hot(batch["label"], len(weights))
    return {**batch, "target": target, "class_weight": weights[batch["label"]]}


def mix(alpha, batch, key):
    """Each picture, its target and its weight mixed with those of another; the larger share is its own."""
    of_share, of_order = jax.random.split(key)
    share = jax.random.beta(of_share, alpha, alpha, (len(batch["label"]),))
    share, other = jnp.maximum(share, 1 - share), jax.random.permutation(of_order, len(share))

    def mixed(values):
        own = share.reshape((-1,) + (1,) * (values.ndim - 1))
        return own * values + (1 - own) * values[other]

    return {**batch, **{name: mixed(batch[name]) for name in ("image", "target", "class_weight")}}


def class_weights(counts):
    """What a picture of each class counts: the rarer the more, and 1 on average over the pictures."""
    return (counts.sum() / (len(counts) * counts)).astype(np.float32)


def loss_fn(model, batch):
    """Cross-entropy of each picture; the logits go on to the metrics."""
    logits = model(batch["image"])
    if "target" in batch:  # in training
        loss = optax.softmax_cross_entropy(logits, batch["target"]) * batch["class_weight"]
    else:
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return loss, {"logits": logits, "labels": batch["label"]}


def make_optimizer(config: Images) -> optax.GradientTransformation:
    """AdamW under one cycle of the learning rate."""
    steps = config.steps or LEAST_STEPS
    warmup = max(steps // 5, 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, max(steps, warmup + 1))
    return optax.adamw(rate, weight_decay=config.weight_decay, mask=is_kernel)


def is_kernel(params):
    """A tree like `params`: True for kernels, False for what is a vector: biases and the scales of norms."""
    return jax.tree.map(lambda param: param.ndim > 1, params)


def make_metrics() -> fb.metrics.Collection:
    """What is measured as it learns."""
    return fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())


def make_eval_metrics(config: Images) -> fb.metrics.Collection:
    """What is measured on pictures that are held out: where classes are weighed, all of them alike too."""
    recall = fb.metrics.Recall(num_classes=len(config.classes), absent="skip")
    balanced = {"balanced_accuracy": recall} if config.class_weights == "balanced" else {}
    return fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy(), **balanced)


def make_beats(config: Images) -> fb.Beats:
    """Forward, loss, gradient, update, as the flags ask for."""
    return fb.four_beats(
        loss_fn, make_optimizer(config), metrics=make_metrics(), predict=predict,
        precision=config.precision or "float32", ema=config.ema,
    )  # fmt: skip


def make_state(config: Images, beats: fb.Beats, mesh: Mesh | None = None) -> fb.TrainState:
    """The state that training begins with."""
    assert config.size is not None
    model = ResNet(
        config.size[2], len(config.classes), stages=config.stages, blocks=config.blocks, width=config.width,
        dropout=config.dropout, rngs=nnx.Rngs(config.seed),
    )  # fmt: skip
    return beats.init(model, key=config.seed, mesh=mesh)


def averaged(state: fb.TrainState) -> fb.TrainState:
    """The state with the average of its parameters in their place: what is evaluated and exported."""
    return state.replace(params=state.ema)


def make_batches(config: Images, pictures: PictureSet) -> tuple[fb.data.Batches, fb.data.Batches]:
    """Batches to train on, and to evaluate on. Only the pictures to train on are augmented."""
    counts, size = pictures.counts("train"), config.batch_size or 64
    is_balanced = config.class_weights == "balanced"
    weights = class_weights(counts) if is_balanced else np.ones(len(counts), np.float32)
    train_data = pictures.part("train").map(to_float)
    train_data = train_data.map(augment) if config.augment else train_data
    train_data = train_data.map(flip) if config.flip else train_data
    train_data = train_data.map(partial(add_targets, jnp.asarray(weights)))
    train_data = train_data.map(partial(mix, config.mixup)) if config.mixup else train_data
    train_batches = train_data.batches(
        size, shuffle=True, seed=config.seed, remainder="drop", workers=config.workers
    )
    return train_batches, scored_batches(config, pictures.part("valid"))


def scored_batches(config: Images, data: fb.data.Arrays | fb.data.Examples) -> fb.data.Batches:
    """Batches of pictures that are scored, each once, as they are."""
    return data.map(to_float).batches(config.batch_size or 64, workers=config.workers)


def open_run(config: Images) -> runs.RunDirectory:
    """The run's directory: a new one, or that of the run to go on with."""
    return runs.RunDirectory.open(
        "images",
        config,
        exact=config.exact_on_resume,
        command="fourbeat train images",
        score="eval_balanced_accuracy" if config.class_weights == "balanced" else "eval_accuracy",
    )


def train(config: Images) -> fb.TrainState:
    """Trains, prints, writes the run directory; returns the final state."""
    runs.check_flags(config)
    config, pictures = read(config)
    train_batches, valid_batches = make_batches(config, pictures)
    beats = make_beats(config)
    mesh = runs.training_mesh(train_batches.batch_size)  # of all processes
    state = make_state(config, beats, mesh)
    step = fb.compile(beats.train_step, mesh=mesh, compiler_options=eigen_convolutions())
    evaluate = fb.evaluator(beats, make_eval_metrics(config))
    log = fb.every(steps=config.log_every)
    eval_now = fb.every(steps=config.eval_every) | fb.at(steps=config.steps)
    save = eval_now if config.save_every is None else eval_now | fb.every(steps=config.save_every)

    with open_run(config) as run:
        if fb.distributed.speaks():  # of several processes one writes
            pictures.record(run.path)
        state = run.restore(state)
        if run.is_new:
            say_chosen(config, pictures)
        run.show_model(state)
        loop = run.loop(train_batches, start=state.step, marks=[log, eval_now], save=save)
        for tick in (bar := fb.progress(loop)):
            state, logs = step(state, tick.batch)
            if log in tick:
                run.log(tick.step, {"batch": {"loss": logs["loss"]}})
            if eval_now in tick:
                scores = evaluate(averaged(state), loop.interruptible(valid_batches))
                if not loop.unfinished:
                    seen, state = state.pop_metrics()
                    run.log(tick.step, {"train": seen, "eval": scores})
                    bar.show(train_accuracy=seen["accuracy"], eval_accuracy=scores["accuracy"])
                    runs.say_scores(tick.step, train=seen, eval=scores)
            run.save(tick, state)
        if run.is_complete:
            report(config, run, beats, averaged(state), pictures)
    return state


def predict(model, batch):
    """Logits of a batch of pictures."""
    return model(batch["image"])


def report(
    config: Images, run: runs.RunDirectory, beats: fb.Beats, state: fb.TrainState, pictures: PictureSet
) -> None:
    """Scores the test pictures, or else those held out, once; prints, plots, and shows the worst mistakes."""
    part = "test" if len(pictures.part("test")) else "valid"
    batches, last_step = scored_batches(config, pictures.part(part)), int(state.step)
    scores = fb.evaluator(beats, make_held_out_metrics(len(config.classes)))(state, batches)
    result = {name: scores[name] for name in ("loss", "accuracy", "balanced_accuracy")}
    drawn = {"confusion": scores["confusion"], "classes": config.classes} if is_drawn(config) else {}
    run.log(last_step, {part: result | drawn})
    run.figure(last_step, "curves", runs.figures.curves(run.history()))
    if is_drawn(config):
        matrix = runs.figures.confusion_matrix(scores["confusion"], config.classes)
        run.figure(last_step, "confusion_matrix", matrix)
    logits = fb.predictor(beats)(state, batches)
    if fb.distributed.speaks():
        files, labels = pictures.files(part), pictures.labels(part)
        write_mistakes(run.path, files, labels, logits, config.classes, part=part, step=last_step)
    run.finish(result)
    runs.show_end(run, "evaluate", "predict", group="test" if part == "test" else "held out")


def is_drawn(config: Images) -> bool:
    """Whether a confusion matrix of so many classes can be read."""
    return len(config.classes) <= MOST_DRAWN
