"""A residual network on a table in plain JAX, Flax and Optax: the whole training in one file that is yours.

    python train.py houses.csv --target price

Read it from top to bottom: the table, what its columns are, its parts, the model, the loss, the optimizer,
one step of training, evaluation, the loop. It needs `jax`, `flax`, `optax`, `numpy`, `pyarrow` and
`scikit-learn`.
"""

import argparse
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow
from flax import nnx
from pyarrow import csv, parquet

FEW = 10  # whole numbers with at most so many different values are a category
MOST_CLASSES = 20  # a target of whole numbers with at most so many different values is one of classes
MOST_WORDS = 1_000  # so many categories of a column are told apart
MISSING, OTHER = 0, 1  # the index of a missing category, and of one that is not told apart
LARGEST_EMBEDDING = 32  # numbers that stand for a category inside the model, at most
BEND = 3.0  # no number is further than this from the middle of its column, in deviations
NULLS = ["", "?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None"]
BATCH_TO_SCORE = 1_024


# 1. The table. A column is numbers, with NaN where one is missing, or texts, with None.


def read_table(file: Path) -> dict[str, np.ndarray]:
    """The columns of a CSV or Parquet file by name: float64, or texts as objects."""
    if file.suffix == ".parquet":
        table = parquet.read_table(file)
    else:
        nulls = [*NULLS, *(f" {word}" for word in NULLS)]
        options = csv.ConvertOptions(null_values=nulls, strings_can_be_null=True)
        table = csv.read_csv(file, convert_options=options)
    return {name.strip(): as_array(table[name]) for name in table.column_names}


def as_array(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Texts, true and false stay words; dates become days since 1970."""
    kind = column.type
    if pyarrow.types.is_boolean(kind) or pyarrow.types.is_string(kind):
        words = [None if word is None else str(word).strip() for word in column.to_pylist()]
        if pyarrow.types.is_boolean(kind):
            words = [word and word.lower() for word in words]
        return np.array([None if word in NULLS else word for word in words], object)
    if pyarrow.types.is_date(kind):
        column = column.cast(pyarrow.date32()).cast(pyarrow.int32())
    elif pyarrow.types.is_timestamp(kind):
        days = column.cast(pyarrow.timestamp("us")).cast(pyarrow.int64()).cast(pyarrow.float64(), safe=False)
        return days.to_numpy() / 86_400e6
    return column.cast(pyarrow.float64(), safe=False).to_numpy().astype(np.float64)


def is_text(column: np.ndarray) -> bool:
    """Whether a column is of texts."""
    return column.dtype == object


def is_missing(column: np.ndarray) -> np.ndarray:
    """Where a column has no value."""
    return np.array([word is None for word in column]) if is_text(column) else np.isnan(column)


def as_words(column: np.ndarray) -> np.ndarray:
    """A column as texts: a whole number has no point."""
    if is_text(column):
        return column
    return np.array([None if np.isnan(x) else word_of(x) for x in column], object)


def word_of(number: float) -> str:
    """A number as a text."""
    return str(int(number)) if number == np.floor(number) else repr(float(number))


# 2. What the columns are. A column that has one value everywhere, none at all, or another in each row (of
#    texts or whole numbers) says nothing of new rows.


def is_whole(column: np.ndarray) -> bool:
    """Whether a column is of whole numbers."""
    return not is_text(column) and bool(np.all(column[~np.isnan(column)] % 1 == 0))


def kind_of(column: np.ndarray) -> str | None:
    """What a column is, "number" or "category"; None for one to leave out."""
    present = column[~is_missing(column)]
    num_different = len(set(present.tolist()))
    if num_different == 0 or (num_different == 1 and len(present) == len(column)):
        return None
    if (is_text(column) or is_whole(column)) and len(present) > FEW and num_different == len(present):
        return None
    is_few = is_whole(column) and num_different <= FEW
    return "category" if is_text(column) or is_few else "number"


class Layout(NamedTuple):
    """What the model has to know of the table; all numbers are of the rows to train on.

    The middle of each column of numbers, how far its values lie apart, and whether some are missing; the
    words of each category; the classes of the target; its mean and its deviation where it is a number.
    """

    centre: np.ndarray
    scale: np.ndarray
    has_missing: list[bool]
    words: list[list[str]]
    classes: list[str]
    mean: float
    std: float


def describe(column: np.ndarray) -> tuple[float, float, bool]:
    """The median of a column, the distance between its quartiles, and whether a value is missing."""
    present = column[~np.isnan(column)]
    low, centre, high = np.quantile(present, [0.25, 0.5, 0.75])
    # over 1.349 it is the standard deviation of normal numbers
    scale = (high - low) / 1.349 or np.std(present) or 1.0
    return float(centre), float(scale), len(present) < len(column)


def often(words: np.ndarray) -> list[str]:
    """The categories that two rows have or more, the most frequent ones first."""
    different, counts = np.unique([word for word in words if word is not None], return_counts=True)
    pairs = [(-n, str(word)) for word, n in zip(different, counts, strict=True) if n > 1]
    return [word for _, word in sorted(pairs)][:MOST_WORDS]


def index_of(words: np.ndarray, known: list[str]) -> np.ndarray:
    """The index of each category: missing ones 0, those not told apart 1, then the most frequent one."""
    places = {None: MISSING, **{word: place + 2 for place, word in enumerate(known)}}
    return np.array([places.get(word, OTHER) for word in words], np.int32)


# 3. The parts, by the seed, so that each has its share of each class, or of low and high numbers. One row of
#    each class is always trained on.


def parts_of(labels, valid: float, test: float, is_classes: bool, seed: int) -> tuple[np.ndarray, ...]:
    """The rows to train on, those that choose the parameters, and those that are scored at the end."""
    drawn = np.random.RandomState([seed]).permutation(len(labels))
    in_order = drawn[np.argsort(labels[drawn], kind="stable")]
    is_first = np.zeros(len(labels), bool)
    if is_classes:
        is_first = np.diff(labels[in_order], prepend=labels.min() - 1) > 0
    begin, rest = in_order[is_first], in_order[~is_first]
    is_test = every(len(rest), len(labels) * test)
    is_valid = np.zeros(len(rest), bool)
    is_valid[~is_test] = every(int((~is_test).sum()), len(labels) * valid)
    train = np.concatenate([begin, rest[~is_test & ~is_valid]])
    return np.sort(train), np.sort(rest[is_valid]), np.sort(rest[is_test])


def every(length: int, num_chosen: float) -> np.ndarray:
    """Which of so many are chosen, evenly spread."""
    num_chosen = min(max(round(num_chosen), 1), length)
    return np.diff(np.arange(length + 1) * num_chosen // max(length, 1)) > 0


@lru_cache(maxsize=1)
def order_of_pass(num_examples: int, seed: int, number: int) -> np.ndarray:
    """The order in which one pass over the rows visits them."""
    return np.random.RandomState([seed, number]).permutation(num_examples)


def training_rows(num_examples: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """The rows of the batch of one step; the short batch at the end of a pass is left out."""
    number, place = divmod(step, num_examples // batch_size)
    return order_of_pass(num_examples, seed, number)[place * batch_size : (place + 1) * batch_size]


# 4. The model. It takes numbers as they stand in the file. A category becomes a few numbers that are learnt.


class Constant(nnx.Variable):
    """A number of the table that the model knows and does not learn."""


class Scaling(nnx.Module):
    """Numbers as they stand in the file to numbers about 0, and where they are missing."""

    def __init__(self, layout: Layout):
        self.centre = Constant(jnp.array(layout.centre, jnp.float32))
        self.scale = Constant(jnp.array(layout.scale, jnp.float32))
        self.may_miss = tuple(place for place, misses in enumerate(layout.has_missing) if misses)

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
        self.scaling = Scaling(layout) if len(layout.centre) else None
        sizes = [len(words) + 2 for words in layout.words]
        features = [min(round(size**0.5) + 1, LARGEST_EMBEDDING) for size in sizes]
        embed = partial(nnx.Embed, embedding_init=known_alone, rngs=rngs)
        self.embeddings = nnx.List(map(embed, sizes, features))
        num_numbers = len(layout.centre) + sum(layout.has_missing)
        self.first = nnx.Linear(num_numbers + sum(features), width, rngs=rngs)
        self.blocks = nnx.List([ResidualBlock(width, dropout, rngs=rngs) for _ in range(blocks)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.last = nnx.Linear(width, max(len(layout.classes), 1), rngs=rngs)
        self.is_regression = not layout.classes
        self.mean, self.std = (Constant(jnp.float32(x)) for x in (layout.mean, layout.std))

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
    """Random numbers for each category, and zeros for a missing one and for those that are not told apart."""
    return jax.random.normal(key, shape, dtype).at[:2].set(0) / shape[1] ** 0.5


# 5. The loss of each row: how surprised the model is by the class, or the squared error in deviations.


def losses_of(model, batch):
    """(batch,)."""
    outputs = model(batch)
    if model.is_regression:
        return ((outputs - batch["label"]) / model.std[...]) ** 2
    return optax.softmax_cross_entropy_with_integer_labels(outputs, batch["label"])


# 6. The optimizer: AdamW, clipped. Its learning rate rises for a tenth of the steps, and then falls along a
#    cosine. Weight decay pulls kernels and embeddings, and nothing else, towards 0.


def make_optimizer(steps: int, learning_rate: float, weight_decay: float) -> optax.GradientTransformation:
    """AdamW under a warm-up and a cosine."""
    warmup = max(steps // 10, 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, max(steps, warmup + 1))
    is_matrix = partial(jax.tree.map, lambda param: param.ndim > 1)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=weight_decay, mask=is_matrix)
    )


# 7. One step of training, compiled when it is first called.


@partial(jax.jit, static_argnums=0)
def train_step(graphdef, state, batch):
    """Forward, loss, gradient, update."""
    model, optimizer = nnx.merge(graphdef, state)
    loss, grads = nnx.value_and_grad(lambda model: losses_of(model, batch).mean())(model)
    optimizer.update(model, grads)
    return nnx.state((model, optimizer)), loss


# 8. Evaluation: forward, and nothing learnt. The last batch is filled up with rows that are left out again.


@nnx.jit
def forward(model, batch):
    """Outputs, and the loss of each row."""
    return model(batch), losses_of(model, batch)


def evaluate(model, columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and loss of every row."""
    model.eval()  # no dropout
    num_rows, found = len(columns["label"]), []
    for start in range(0, num_rows, BATCH_TO_SCORE):
        places = np.arange(start, start + BATCH_TO_SCORE) % num_rows
        found.append(forward(model, {name: jnp.array(column[places]) for name, column in columns.items()}))
    model.train()
    outputs, losses = (np.concatenate([np.asarray(each[k]) for each in found])[:num_rows] for k in (0, 1))
    return outputs, losses


def score(outputs: np.ndarray, labels: np.ndarray, is_classes: bool) -> str:
    """Accuracy, or the root of the mean squared error."""
    if is_classes:
        return f"accuracy {(outputs.argmax(axis=1) == labels).mean():.4f}"
    return f"rmse {np.sqrt(np.mean((outputs.astype(np.float64) - labels) ** 2)):.4f}"


# 9. The loop.


def prepare(file: Path, target: str, valid: float, test: float, seed: int):
    """What the model has to know, the columns of a batch for every row, and the rows of the three parts."""
    table = read_table(file)
    has_target = ~is_missing(table[target])
    table = {name: column[has_target] for name, column in table.items()}
    wanted = table.pop(target)
    num_different = len(set(wanted.tolist()))
    is_classes = is_text(wanted) or (is_whole(wanted) and num_different <= MOST_CLASSES)
    classes = [str(word) for word in as_words(np.unique(wanted))] if is_classes else []
    labels = wanted.astype(np.float32) if not classes else index_of(as_words(wanted), classes) - 2
    parts = parts_of(labels, valid, test, is_classes, seed)

    numbers = [column for column in table.values() if kind_of(column) == "number"]
    categories = [as_words(column) for column in table.values() if kind_of(column) == "category"]
    told = [describe(column[parts[0]]) for column in numbers]
    words = [often(column[parts[0]]) for column in categories]
    mean, std = (0.0, 1.0) if is_classes else (wanted[parts[0]].mean(), wanted[parts[0]].std())
    centre, scale, has_missing = map(list, zip(*told, strict=True)) if told else ([], [], [])
    layout = Layout(np.array(centre), np.array(scale), has_missing, words, classes, mean, std)
    columns = {"label": labels}
    if numbers:
        columns["numbers"] = np.stack(numbers, axis=1).astype(np.float32)
    if categories:
        columns["categories"] = np.stack(
            [index_of(*each) for each in zip(categories, words, strict=True)], axis=1
        )
    return layout, columns, parts


def train(
    file: Path,
    target: str,
    *,
    steps=400,
    batch_size=256,
    seed=0,
    width=128,
    blocks=2,
    dropout=0.4,
    learning_rate=1e-3,
    weight_decay=0.3,
    eval_every=20,
    valid=0.15,
    test=0.15,
) -> TableNet:
    """Trains, prints scores, and returns the model as it was best on the rows to choose by."""
    layout, columns, parts = prepare(file, target, valid, test, seed)
    train_columns, valid_columns, test_columns = (
        {name: column[rows] for name, column in columns.items()} for rows in parts
    )
    model = TableNet(layout, width, blocks, dropout, rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, make_optimizer(steps, learning_rate, weight_decay), wrt=nnx.Param)
    graphdef, state = nnx.split((model, optimizer))
    num_rows = len(parts[0])
    best, best_loss = state, np.inf
    for step in range(steps):
        rows = training_rows(num_rows, min(batch_size, num_rows), seed, step)
        batch = {name: jnp.array(column[rows]) for name, column in train_columns.items()}
        state, loss = train_step(graphdef, state, batch)
        if (step + 1) % eval_every == 0 or step + 1 == steps:
            nnx.update((model, optimizer), state)
            eval_loss = float(evaluate(model, valid_columns)[1].mean(dtype=np.float64))
            print(f"step {step + 1:5d}   batch loss {float(loss):.4f}   eval loss {eval_loss:.4f}")
            if eval_loss < best_loss:
                best, best_loss = state, eval_loss
    nnx.update((model, optimizer), best)
    outputs, labels = evaluate(model, test_columns)[0], test_columns["label"]
    print(f"test {score(outputs, labels, bool(layout.classes))}")
    boosted = boosting(train_columns, test_columns, layout, seed)
    print(f"gradient boosting {score(boosted, labels, bool(layout.classes))}")
    return model


def boosting(train_columns, test_columns, layout: Layout, seed: int) -> np.ndarray:
    """What gradient boosting predicts of the test rows, fitted to the same rows to train on."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    def inputs(columns):
        categories = columns.get("categories", np.zeros((len(columns["label"]), 0), np.int32))
        categories = np.where(categories < 254, categories, OTHER).astype(
            np.float32
        )  # it takes 254 of a column
        categories[categories == MISSING] = np.nan
        return np.concatenate([columns.get("numbers", categories[:, :0]), categories], axis=1)

    is_category = np.repeat([False, True], [len(layout.centre), len(layout.words)])
    kind: Any = HistGradientBoostingClassifier if layout.classes else HistGradientBoostingRegressor
    model = kind(categorical_features=is_category, random_state=seed)
    model.fit(inputs(train_columns), train_columns["label"])
    return (model.predict_proba if layout.classes else model.predict)(inputs(test_columns))


def save(model, file: Path) -> None:
    """Parameters and constants as arrays by name: `np.load(file)["first.kernel"]`."""
    state = nnx.to_pure_dict(nnx.state(model, (nnx.Param, Constant)))
    leaves, _ = jax.tree.flatten_with_path(state)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    arrays = {name: np.asarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}
    np.savez(file, allow_pickle=False, **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Trains a residual network on a table.", allow_abbrev=False)
    parser.add_argument("file", type=Path, help="CSV with a line of names, or Parquet")
    parser.add_argument("--target", required=True, help="the column to predict")
    parser.add_argument("--out", type=Path, default=Path("parameters.npz"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="at its peak")
    parser.add_argument("--weight-decay", type=float, default=0.3)
    parser.add_argument("--eval-every", type=int, default=20)
    flags = vars(parser.parse_args())
    out = flags.pop("out")
    save(train(flags.pop("file"), flags.pop("target"), **flags), out)
    print(f"parameters written to {out}")
