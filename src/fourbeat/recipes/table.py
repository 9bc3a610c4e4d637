"""A residual network on a table of your own, CSV or Parquet: the whole loop in one file, to copy and own."""

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import fourbeat as fb
from fourbeat import runs
from fourbeat.recipes import columns
from fourbeat.recipes.columns import Layout, Prepared

LARGEST_EMBEDDING = 32  # numbers that stand for a category inside the model, at most
BEND = 3.0  # no number is further than this from the middle of its column, in deviations
LEAST_STEPS, MOST_STEPS, EPOCHS = 400, 50_000, 40  # how long it trains where --steps is not given
MOST_SHOWN_CLASSES = 64  # of a confusion matrix
NUM_LOOKS = 20  # evaluations of a run where --eval-every is not given


@dataclasses.dataclass(frozen=True)
class Table:
    """Trains a residual network on a table of your own, and compares it with gradient boosting."""

    file: Annotated[Path | None, *runs.argument("FILE", "a CSV or Parquet file")] = None
    """CSV with a line of names, or Parquet."""
    target: str = ""
    """The column to predict."""
    task: Literal["classification", "regression"] | None = None
    """What the target is; by default texts, true and false, and up to 20 whole numbers are classes."""
    drop: Annotated[tuple[str, ...], *runs.repeated("NAME")] = ()
    """Leave this column out; may be given several times, as the next two."""
    number: Annotated[tuple[str, ...], *runs.repeated("NAME")] = ()
    """This column is a number, whatever it looks like."""
    category: Annotated[tuple[str, ...], *runs.repeated("NAME")] = ()
    """This column is a category, whatever it looks like."""
    valid: Annotated[float, runs.above(0, at_most=0.8)] = 0.15
    """The share of the rows that choose the checkpoint."""
    test: Annotated[float, runs.above(0, at_most=0.8)] = 0.15
    """The share of the rows that are scored at the end."""
    out: Path | None = None
    """The run's own directory; by default runs/table/<time>."""
    steps: Annotated[int, runs.at_least(1, below=2**31)] | None = None
    """Training steps; by default 40 epochs, at least 400 and at most 50,000 steps."""
    batch_size: Annotated[int, runs.at_least(1)] = 256
    """Rows in a batch; all of them where there are fewer."""
    seed: Annotated[int, runs.at_least(0, below=2**32)] = 0
    """Seed of the parts, the initial values, the order of the rows and the dropout."""
    width: Annotated[int, runs.at_least(1)] = 128
    """Numbers that stand for a row inside the model."""
    blocks: Annotated[int, runs.at_least(0)] = 2
    """Residual blocks, of two linear layers each."""
    dropout: Annotated[float, runs.at_least(0, below=1)] = 0.4
    """The share of what a block gives that dropout sets to 0, in training."""
    learning_rate: Annotated[float, runs.at_least(0)] = 1e-3
    """The peak of the learning rate: a tenth of the steps warm up to it, then it falls along a cosine."""
    weight_decay: Annotated[float, runs.at_least(0)] = 0.3
    """Weight decay of AdamW, on kernels and embeddings alone."""
    eval_every: Annotated[int, runs.at_least(1)] | None = None
    """Evaluate and save every so many steps; by default 20 times."""
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
        return frozenset({"log", "log_every", "save_every"})


class Constant(nnx.Variable):
    """A number of the table that the model knows and does not learn."""


class Scaling(nnx.Module):
    """Numbers as they stand in the file to numbers about 0, and where they are missing."""

    def __init__(self, layout: Layout):
        self.centre = Constant(jnp.array([number.centre for number in layout.numbers], jnp.float32))
        self.scale = Constant(jnp.array([number.scale for number in layout.numbers], jnp.float32))
        self.may_miss = tuple(place for place, number in enumerate(layout.numbers) if number.has_missing)

    def __call__(self, numbers):
        """(batch, numbers) to (batch, numbers + those that may miss)."""
        is_missing = jnp.isnan(numbers)
        far = (jnp.where(is_missing, self.centre[...], numbers) - self.centre[...]) / self.scale[...]
        bent = far / jnp.sqrt(1 + (far / BEND) ** 2)
        return jnp.concatenate([bent, is_missing[:, self.may_miss].astype(bent.dtype)], axis=1)


class ResidualBlock(nnx.Module):
    """A norm and two linear layers; what they give is added to the input."""

    def __init__(self, width: int, dropout: float, *, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 2 * width, rngs=rngs)
        self.down = nnx.Linear(2 * width, width, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x):
        """From and to shape (batch, width)."""
        return x + self.dropout(self.down(nnx.relu(self.up(self.norm(x)))))


class TableNet(nnx.Module):
    """Numbers and the embeddings of categories, a linear layer, residual blocks, a norm, a linear layer."""

    def __init__(self, layout: Layout, width: int, blocks: int, dropout: float, *, rngs: nnx.Rngs):
        self.scaling = Scaling(layout) if layout.numbers else None
        sizes = [len(category.words) + 2 for category in layout.categories]
        features = [min(round(size**0.5) + 1, LARGEST_EMBEDDING) for size in sizes]
        embed = partial(nnx.Embed, embedding_init=known_alone, rngs=rngs)
        self.embeddings = nnx.List(map(embed, sizes, features))
        num_numbers = len(layout.numbers) + sum(number.has_missing for number in layout.numbers)
        self.first = nnx.Linear(num_numbers + sum(features), width, rngs=rngs)
        self.blocks = nnx.List([ResidualBlock(width, dropout, rngs=rngs) for _ in range(blocks)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.last = nnx.Linear(width, max(len(layout.target.classes), 1), rngs=rngs)
        self.is_regression = not layout.target.classes
        self.mean, self.std = (Constant(jnp.float32(x)) for x in (layout.target.mean, layout.target.std))

    def __call__(self, batch):
        """Logits (batch, classes), or the numbers themselves (batch,)."""
        parts = [] if self.scaling is None else [self.scaling(batch["numbers"])]
        for place, embedding in enumerate(self.embeddings):
            parts.append(embedding(batch["categories"][:, place]))
        x = self.first(jnp.concatenate(parts, axis=1))
        for block in self.blocks:
            x = block(x)
        x = self.last(nnx.relu(self.norm(x)))
        return self.mean[...] + self.std[...] * x[:, 0] if self.is_regression else x


def known_alone(key, shape, dtype):
    """Random numbers for each category, and zeros for a missing one and for those without their own index.

    Where the rows to train on have none of these, they stay at zero: they say nothing.
    """
    return jax.random.normal(key, shape, dtype).at[:2].set(0) / shape[1] ** 0.5


def classification_loss(model, batch):
    """Cross-entropy of each row; the logits go on to the metrics."""
    logits = model(batch)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return loss, {"logits": logits, "labels": batch["label"]}


def regression_loss(model, batch):
    """The squared error of each row, in squared deviations of the target; the numbers go to the metrics."""
    predictions = model(batch)
    loss = ((predictions - batch["label"]) / model.std[...]) ** 2
    return loss, {"predictions": predictions, "targets": batch["label"]}


def predict(model, batch):
    """Logits, or numbers, of a batch of rows."""
    return model(batch)


def make_optimizer(config: Table) -> optax.GradientTransformation:
    """AdamW, clipped, under a warm-up and a cosine."""
    steps = config.steps or LEAST_STEPS
    warmup = max(steps // 10, 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, max(steps, warmup + 1))
    adamw = optax.adamw(rate, weight_decay=config.weight_decay, mask=is_matrix)
    return optax.chain(optax.clip_by_global_norm(1.0), adamw)


def is_matrix(params):
    """A tree like `params`: True for kernels and embeddings, False for biases and the scales of norms."""
    return jax.tree.map(lambda param: param.ndim > 1, params)


def make_metrics(layout: Layout) -> fb.metrics.Collection:
    """What is measured as it learns."""
    score = {"accuracy": fb.metrics.Accuracy()} if layout.target.classes else {"r2": fb.metrics.R2()}
    return fb.metrics.Collection(loss=fb.metrics.Mean("loss"), **score)


def make_beats(config: Table) -> fb.Beats:
    """Forward, loss, gradient, update, for the columns that the run in `config.out` has."""
    return beats_of(config, layout_of(config))


def make_state(config: Table, beats: fb.Beats) -> fb.TrainState:
    """The state that the run in `config.out` began with."""
    return state_of(config, layout_of(config), beats)


def layout_of(config: Table) -> Layout:
    """The columns of the run in `config.out`."""
    assert config.out is not None
    return Layout.read(config.out)


def beats_of(config: Table, layout: Layout) -> fb.Beats:
    """Forward, loss, gradient, update."""
    loss_fn = classification_loss if layout.target.classes else regression_loss
    return fb.four_beats(loss_fn, make_optimizer(config), metrics=make_metrics(layout), predict=predict)


def state_of(config: Table, layout: Layout, beats: fb.Beats) -> fb.TrainState:
    """The state that training begins with."""
    model = TableNet(layout, config.width, config.blocks, config.dropout, rngs=nnx.Rngs(config.seed))
    return beats.init(model, key=config.seed)


def make_batches(config: Table, table: Prepared) -> tuple[fb.data.Batches, fb.data.Batches]:
    """Batches to train on, and to choose the checkpoint by."""
    train_data, valid_data = (table.arrays(rows) for rows in (table.parts.train, table.parts.valid))
    batch_size = min(config.batch_size, len(train_data))
    return (
        train_data.batches(batch_size, shuffle=True, seed=config.seed, remainder="drop"),
        valid_data.batches(config.batch_size),
    )


def completed(config: Table, steps_per_epoch: int) -> Table:
    """The flags, with the steps that are not given; the file's path is that from the root."""
    steps = config.steps or min(max(EPOCHS * steps_per_epoch, LEAST_STEPS), MOST_STEPS)
    eval_every = config.eval_every or max(steps // NUM_LOOKS, 1)
    file = Path(os.path.abspath(config.file or ""))
    return dataclasses.replace(config, file=file, steps=steps, eval_every=eval_every)


def open_run(config: Table) -> runs.RunDirectory:
    """The run's directory: a new one, or that of the run to go on with."""
    return runs.RunDirectory.open(
        "table",
        config,
        exact=config.exact_on_resume,
        command="fourbeat train table",
        score="eval_loss",
        mode="min",
    )


def train(config: Table) -> fb.TrainState:
    """Trains, prints, writes the run directory; returns the final state."""
    runs.check_flags(config)
    table = columns.prepare(config)
    train_batches, valid_batches = make_batches(config, table)
    config = completed(config, len(train_batches))
    beats = beats_of(config, table.layout)
    state = state_of(config, table.layout, beats)
    step, evaluate = fb.compile(beats.train_step), fb.evaluator(beats)
    log, look = (
        fb.every(steps=config.log_every),
        fb.every(steps=config.eval_every) | fb.at(steps=config.steps),
    )
    save = look if config.save_every is None else look | fb.every(steps=config.save_every)

    with open_run(config) as run:
        if run.is_new:
            columns.show(table, config.seed)
        table.layout.keep(run.path, is_new=run.is_new)
        state = run.restore(state)
        run.show_model(state)
        loop = run.loop(train_batches, start=state.step, marks=[log, look], save=save)
        for tick in (bar := fb.progress(loop)):
            state, logs = step(state, tick.batch)
            if log in tick:
                run.log(tick.step, {"batch": {"loss": logs["loss"]}})
            if look in tick:
                scores = evaluate(state, loop.interruptible(valid_batches))
                if not loop.unfinished:
                    seen, state = state.pop_metrics()
                    run.log(tick.step, {"train": seen, "eval": scores})
                    bar.show(train_loss=seen["loss"], eval_loss=scores["loss"])
                    runs.say_scores(tick.step, train=seen, eval=scores)
            run.save(tick, state)
        if run.is_complete:
            report(config, run, beats, state, table)
    return state


def report(
    config: Table, run: runs.RunDirectory, beats: fb.Beats, state: fb.TrainState, table: Prepared
) -> None:
    """Scores the best state on the test rows, beside the baselines; marks the run as finished."""
    last_step, target = int(state.step), table.layout.target
    best, rows = run.best(state), table.parts.test
    labels = table.labels[rows]
    given = {"test": columns.predicted(beats, best, table.arrays(rows), target)}
    given |= columns.baselines(table.batch, table.labels, table.parts.train, rows, target, config.seed)
    scores = {name: columns.scores_of(labels, each, target) for name, each in given.items()}
    run.figure(last_step, "curves", runs.figures.curves(run.history()))
    logged: dict = dict(scores)
    if 0 < len(target.classes) <= MOST_SHOWN_CLASSES:
        confusion = columns.confusion(labels, given["test"])
        logged["test"] = {**scores["test"], "confusion": confusion, "classes": target.classes}
        figure = runs.figures.confusion_matrix(confusion, target.classes)
        run.figure(last_step, "confusion_matrix", figure)
    run.log(last_step, logged)
    run.finish(scores["test"])
    runs.say(f"scored with the weights after step {int(best.step)}, the best by its loss")
    columns.show_compared(scores, target, len(rows))
    runs.show_end(run, "evaluate", "predict")
