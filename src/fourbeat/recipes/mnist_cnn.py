"""A small CNN on MNIST: the whole loop in one file, to copy and own."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import optax
from flax import nnx
from jax.sharding import Mesh

import fourbeat as fb
from fourbeat import runs
from fourbeat.compiling import eigen_convolutions
from fourbeat.control import MemberStopping
from fourbeat.recipes.digits import make_test_metrics
from fourbeat.replicating import Replicas, ReplicasState

STEPS_PER_EPOCH = 1_000
HELD_OUT = 6_400  # of the 60,000 training images: 200 evaluation batches of 32


@dataclasses.dataclass(frozen=True)
class MnistCNN:
    """Trains a small CNN on MNIST: two convolutions, two linear layers, about 98.7 % in 5,000 steps."""

    out: Path | None = None
    """The run's own directory; by default runs/mnist-cnn/<time>."""
    steps: Annotated[int, runs.at_least(1, below=2**31)] = 5_000
    """Training steps; an epoch is 1,000 of them."""
    batch_size: Annotated[int, runs.at_least(1)] = 32
    """Images in a batch."""
    seed: Annotated[int, runs.at_least(0, below=2**32)] = 0
    """Seed of the initial values and of the order of the data."""
    replicas: Annotated[int, runs.at_least(2)] | None = None
    """Train so many members at once, with the seeds from --seed on; curves show their spread."""
    optimizer: Literal["adamw", "adam", "momentum", "rmsprop", "sgd"] = "adamw"
    """Which optax optimizer."""
    learning_rate: Annotated[float, runs.at_least(0)] = 5e-3
    """Learning rate, the peak of it under a schedule."""
    clip_norm: Annotated[float, runs.above(0)] | None = None
    """Clip gradients to this global norm."""
    schedule: Literal["constant", "warmup-cosine"] = "constant"
    """Learning rate over time: constant, or a tenth of the steps of warm-up and then a cosine."""
    patience: Annotated[int, runs.at_least(1)] | None = None
    """Stop after so many epochs without a better evaluation accuracy."""
    precision_recall: bool = False
    """Show precision and recall of each class on the test set."""
    log_every: Annotated[int, runs.at_least(1)] = 50
    """Log the loss of the batch every so many steps."""
    log: tuple[str, ...] = ()
    """Log there too: tensorboard, wandb, mlflow, trackio, or module:name of a callable of your own."""
    save_every: Annotated[int, runs.at_least(1)] = 1_000
    """Save a checkpoint every so many steps."""
    resume: str | None = None
    """Go on with a run: its directory, "best", or "latest": that of --out or else the newest one."""
    max_seconds: Annotated[float, runs.above(0)] | None = None
    """Save and stop after so much time; --resume goes on."""

    @property
    def exact_on_resume(self) -> frozenset[str]:
        """Flags that may change on resume: at the same step the run is still the same."""
        free = {"patience", "precision_recall", "log", "log_every", "save_every"}
        return frozenset(free if self.schedule == "warmup-cosine" else {*free, "steps"})


class CNN(nnx.Module):
    """Conv 32, Conv 64, each with relu and 2x2 average pool; Linear 256, relu; Linear 10."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 32, kernel_size=(3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, kernel_size=(3, 3), rngs=rngs)
        self.avg_pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.linear1 = nnx.Linear(3136, 256, rngs=rngs)
        self.linear2 = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        """Logits (batch, 10) of images (batch, 28, 28, 1)."""
        x = self.avg_pool(nnx.relu(self.conv1(x)))
        x = self.avg_pool(nnx.relu(self.conv2(x)))
        x = x.reshape(x.shape[0], -1)
        return self.linear2(nnx.relu(self.linear1(x)))


def loss_fn(model, batch):
    """Cross-entropy of each image; the logits go on to the metrics."""
    logits = model(batch["image"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return loss, {"logits": logits, "labels": batch["label"]}


def make_optimizer(config: MnistCNN) -> optax.GradientTransformation:
    """The optimizer that the flags ask for."""
    rate = config.learning_rate
    if config.schedule == "warmup-cosine":
        warmup = max(config.steps // 10, 1)
        rate = optax.warmup_cosine_decay_schedule(0.0, rate, warmup, max(config.steps, warmup + 1))
    tx = {
        "adamw": lambda: optax.adamw(rate, b1=0.9),
        "adam": lambda: optax.adam(rate),
        "momentum": lambda: optax.sgd(rate, momentum=0.9),
        "rmsprop": lambda: optax.rmsprop(rate),
        "sgd": lambda: optax.sgd(rate),
    }[config.optimizer]()
    if config.clip_norm is None:
        return tx
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), tx)


def make_metrics() -> fb.metrics.Collection:
    """What is measured as it learns."""
    return fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())


def make_beats(config: MnistCNN) -> fb.Beats | Replicas:
    """Forward, loss, gradient, update, as the flags ask for."""
    beats = fb.four_beats(loss_fn, make_optimizer(config), metrics=make_metrics(), predict=predict)
    if config.replicas is None:
        return beats
    return fb.replicas(
        beats, config.replicas, over={"seed": range(config.seed, config.seed + config.replicas)}
    )


def make_state(
    config: MnistCNN, beats: fb.Beats | Replicas, mesh: Mesh | None = None
) -> fb.TrainState | ReplicasState:
    """The state that training begins with."""
    if isinstance(beats, Replicas):
        return beats.init(lambda seed: CNN(rngs=nnx.Rngs(seed)), mesh=mesh)
    return beats.init(CNN(rngs=nnx.Rngs(config.seed)), key=config.seed, mesh=mesh)


def make_stopping(config: MnistCNN) -> fb.EarlyStopping | MemberStopping:
    """What stops the run early, or a member of it; without --patience nothing does."""
    stopping = fb.EarlyStopping(config.patience or config.steps, mode="max")
    return stopping if config.replicas is None else MemberStopping(stopping, config.replicas)


def make_batches(config: MnistCNN) -> tuple[fb.data.Batches, fb.data.Batches, fb.data.Batches]:
    """Batches to train on, to evaluate on each epoch, and of the test set, seen once at the end."""
    train_data, test_data = fb.data.mnist()
    train_data, valid_data = train_data.split(HELD_OUT, seed=config.seed)
    return (
        train_data.batches(config.batch_size, shuffle=True, seed=config.seed, remainder="drop"),
        valid_data.batches(config.batch_size),
        test_data.batches(config.batch_size),
    )


def open_run(config: MnistCNN) -> runs.RunDirectory:
    """The run's directory: a new one, or that of the run to go on with."""
    return runs.RunDirectory.open(
        "mnist-cnn",
        config,
        exact=config.exact_on_resume,
        command="fourbeat train mnist-cnn",
        score="eval_accuracy",
    )


def train(config: MnistCNN, stopping: Any = None) -> fb.TrainState | ReplicasState:
    """Trains, prints, writes the run directory; returns the final state.

    Args:
      config: the flags.
      stopping: in place of the flag `patience`, such as a `fourbeat.control.Pruning` around `make_stopping`.
    """
    runs.check_flags(config)
    train_batches, valid_batches, test_batches = make_batches(config)
    beats = make_beats(config)
    mesh = runs.training_mesh(config.batch_size)  # of all processes
    state = make_state(config, beats, mesh)
    step = fb.compile(beats.train_step, mesh=mesh, compiler_options=eigen_convolutions())
    evaluate = fb.evaluator(beats)
    stopping = make_stopping(config) if stopping is None else stopping
    log, save = fb.every(steps=config.log_every), fb.every(steps=config.save_every)
    epoch_end = fb.every(steps=STEPS_PER_EPOCH) | fb.at(steps=config.steps)

    with open_run(config) as run:
        state, stopping = run.restore(state, stopping)
        run.show_model(state)
        loop = run.loop(train_batches, start=state.step, marks=[log, epoch_end], save=save)
        for tick in (bar := fb.progress(loop)):
            state, logs = step(state, tick.batch)
            if log in tick:
                run.log(tick.step, runs.spread(batch={"loss": logs["loss"]}))
            if epoch_end in tick:
                scores = evaluate(state, loop.interruptible(valid_batches))
                if not loop.unfinished:
                    seen, state = state.pop_metrics()
                    stopping = stopping.update(scores["accuracy"])
                    if isinstance(stopping, MemberStopping):
                        state = state.stop(stopping.stopped)  # each by its own scores
                    values = runs.spread(train=seen, eval=scores)  # of members their medians beside all
                    run.log(tick.step, values)
                    bar.show(**{f"{part}_accuracy": values[part]["accuracy"] for part in ("train", "eval")})
                    runs.say_scores(tick.step, train=values["train"], eval=values["eval"])
            run.save(tick, state, stopping)  # where one is due; the loop ends once stopping.should_stop
        if run.is_complete:
            if stopping.should_stop:
                print(f"stopped early: {stopping.reason}")
            report(config, run, *runs.best_member(beats, state, stopping), test_batches)
    return state


def predict(model, batch):
    """Logits of a batch of images."""
    return model(batch["image"])


def report(
    config: MnistCNN,
    run: runs.RunDirectory,
    beats: fb.Beats,
    state: fb.TrainState,
    test_batches: fb.data.Batches,
) -> None:
    """Scores the whole test set, once; prints, plots, and marks the run as finished."""
    scores = fb.evaluator(beats, make_test_metrics())(state, test_batches)
    batch = test_batches[0].materialize()
    print("predicted", *beats.predict_step(state, batch).argmax(-1)[:10].tolist())
    print("true     ", *batch["label"][:10].tolist())
    if config.precision_recall:
        runs.show_by_class(precision=scores["precision"], recall=scores["recall"])
    result, last_step = {name: scores[name] for name in ("loss", "accuracy")}, int(state.step)
    run.log(last_step, {"test": {**result, "confusion": scores["confusion"]}})
    run.figure(last_step, "curves", runs.figures.curves(run.history()))
    run.figure(last_step, "confusion_matrix", runs.figures.confusion_matrix(scores["confusion"]))
    run.finish(result)
    runs.show_end(run, "evaluate", "predict")
