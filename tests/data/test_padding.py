"""Short batches brought to one shape: losses, gradients, parameters and scores are those without padding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from tests.data.streams_of import Counter

RNG = np.random.RandomState(0)
SIZES = (4, 4, 3, 1)


def batch_of(rows, weight):
    batch = {
        "x": RNG.randn(rows, 3).astype(np.float32),
        "y": {"z": RNG.randint(0, 5, rows), "deep": {"t": RNG.randn(rows, 2, 2)}},
        "of_all": np.float32(0.5),
    }
    if weight == "a row":
        batch["weight"] = RNG.rand(rows).astype(np.float32)
    elif weight == "a value":
        batch["weight"] = RNG.rand(rows, 2).astype(np.float64)
    elif weight == "whole":
        batch["weight"] = np.arange(1, rows + 1)
    return batch


def loss_fn(model, batch):
    errors = (batch["x"] @ model["w"] - batch["y"]["deep"]["t"][:, 0] * batch["of_all"]) ** 2
    return errors if batch.get("weight") is not None and batch["weight"].ndim == 2 else errors.sum(-1)


@pytest.mark.parametrize("weight", [None, "a row", "a value", "whole"])
def test_losses_gradients_and_scores_are_those_without_padding(weight):
    given = [batch_of(rows, weight) for rows in SIZES]
    w = RNG.randn(3, 2).astype(np.float32)

    def mean(w, batch):  # by hand, over the rows that there are
        values = jnp.asarray(loss_fn({"w": w}, batch))
        weights = jnp.asarray(batch.get("weight", np.ones(len(values))), jnp.float32)
        return jnp.sum(values * weights) / jnp.sum(weights)

    by_hand = [jax.value_and_grad(mean)(jnp.asarray(w), batch) for batch in given]
    beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    step, evaluate = fb.compile(beats.train_step, on_recompile="raise"), fb.evaluator(beats)
    state = beats.init({"w": jnp.asarray(w)})
    batches = fb.data.padded(given, 4)
    totals = [np.sum(batch.get("weight", np.ones(len(batch["x"])))) for batch in given]
    score = sum(float(loss) * total for (loss, _), total in zip(by_hand, totals, strict=True)) / sum(totals)
    with fb.testing.expect_compilations(2) as names:
        for batch, (loss, gradient) in zip(batches, by_hand, strict=True):
            trained, logs = step(state.replace(), batch)
            np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
            np.testing.assert_allclose(trained.params["w"], w - 0.1 * gradient, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(evaluate(state, batches)["loss"], score, rtol=1e-5)
    assert names == ["train_step", "eval_step"]


def test_what_is_padded_how():
    short = {
        "x": np.array([1, 2], np.uint8),
        "n": {"t": np.array([[1.5], [2.5]], np.float16)},
        "k": np.float32(3),
    }
    long, short = fb.data.padded(
        [{**short, "x": np.arange(3, dtype=np.uint8), "n": {"t": np.ones((3, 1), np.float16)}}, short], 3
    )
    assert jax.tree.map(lambda column: (column.dtype, column.shape), long) == jax.tree.map(
        lambda column: (column.dtype, column.shape), short
    )
    assert short["x"].tolist() == [1, 2, 2] and short["n"]["t"].tolist() == [[1.5], [2.5], [2.5]]
    assert short["weight"].tolist() == [1, 1, 0] and long["weight"].tolist() == [1, 1, 1]
    (weighted,) = fb.data.padded([{"x": np.ones(2), "weight": np.array([[2.0, 3.0], [4.0, np.nan]])}], 3)
    np.testing.assert_array_equal(weighted["weight"], [[2, 3], [4, np.nan], [0, 0]])
    (common,) = fb.data.padded([{"x": np.ones(2), "weight": np.float32(0.5)}], 3)
    assert common["weight"].tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize("kind", ["list", "iterable", "iterator", "stream"])
def test_it_is_read_as_what_it_pads(kind):
    class Loader:
        def __iter__(self):
            return iter(Counter())

        def __len__(self):
            return 3

    make = {
        "list": lambda: list(Counter()),
        "iterable": Loader,
        "iterator": lambda: iter(list(Counter())),
        "stream": lambda: fb.data.Stream(Counter()),
    }[kind]
    num_steps = 3 if kind == "iterator" else 6
    batches = fb.data.padded(make(), 4)
    ticks = list(fb.loop(batches, until=fb.at(steps=num_steps), marks=[fb.every(epochs=1)]))
    assert {tick.batch["id"].shape for tick in ticks} == {(4,)}
    weights = [np.asarray(tick.batch["weight"]).tolist() for tick in ticks]
    assert weights == ([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]] * 2)[:num_steps]
    for epoch in range(num_steps // 3):
        ids = [i for tick in ticks[3 * epoch : 3 * epoch + 3] for i in np.asarray(tick.batch["id"])]
        assert sorted(ids[:11]) == list(range(11))
    if kind == "iterable":
        assert len(batches) == 3
    if kind in ("list", "stream"):  # resumed exactly, without a warning
        again = fb.data.padded(make(), 4)
        if kind == "stream":
            halfway = make()
            for _ in fb.loop(fb.data.padded(halfway, 4), until=fb.at(steps=4)):
                pass  # the stream and what pads it are at one place
            again.restore(halfway.state())
        for tick, before in zip(fb.loop(again, start=4, until=fb.at(steps=6)), ticks[4:], strict=True):
            np.testing.assert_array_equal(tick.batch["id"], before.batch["id"])


def test_a_prediction_has_the_real_rows_alone():
    beats = fb.four_beats(
        lambda model, batch: batch["x"] * model["w"],
        optax.sgd(0.1),
        predict=lambda model, batch: {"out": batch["x"] * model["w"]},
    )
    state = beats.init({"w": jnp.full((), 2.0)})
    given = [{"x": np.arange(3.0)}, {"x": np.arange(3.0, 5.0)}]

    class Passes:
        def __iter__(self):
            return Once(given)

    for batches in (given, iter(given), fb.data.Stream(Passes)):
        predicted = fb.predictor(beats)(state, fb.data.padded(batches, 3))
        assert predicted["out"].tolist() == [0, 2, 4, 6, 8]


class Once:
    """An iterator with a state."""

    def __init__(self, batches):
        self.batches, self.at = batches, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.at == len(self.batches):
            raise StopIteration
        self.at += 1
        return self.batches[self.at - 1]

    def get_state(self):
        return self.at

    def set_state(self, state):
        self.at = state


ERRORS = {
    "longer": (
        [{"x": np.ones((5, 2))}],
        ValueError,
        "cannot bring a batch of 5 examples to 4: batch['x'] (5, 2). Padding makes short batches longer; "
        "give padded(..., batch_size) the length of the longest one, and leave empty ones out.",
    ),
    "empty": (
        [{"x": np.ones((0, 2))}],
        ValueError,
        "cannot bring a batch of 0 examples to 4: batch['x'] (0, 2). Padding makes short batches longer; "
        "give padded(..., batch_size) the length of the longest one, and leave empty ones out.",
    ),
    "tuples": (
        [(np.ones(2), np.ones(2))],
        TypeError,
        "a batch is a dict of arrays, and this one is a tuple. Give each column a name, such as "
        '{"image": images, "label": labels}.',
    ),
    "no rows": (
        [{"x": np.ones(2), "y": np.ones(3)}],
        ValueError,
        "cannot count the examples of batch: its columns have no common leading axis: batch['x'] (2,), "
        "batch['y'] (3,). Give every array the same leading axis, one entry an example, and keep what "
        "belongs to all examples out of the batch (or make it a scalar). Or add a column 'weight' of one "
        "value an example: its leading axis then counts them.",
    ),
    "padded already": (
        fb.data.Arrays(x=np.ones(5)).batches(2),
        TypeError,
        "the Batches gives batches of one shape already. Short ones are padded with batches(..., "
        'remainder="pad"), the default.',
    ),
    "one batch": (
        {"x": np.ones(2)},
        TypeError,
        "batches is one dict, not many batches. Pass the batches in a list: [batch].",
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(kind):
    batches, error, text = ERRORS[kind]
    with pytest.raises(error) as caught:
        list(fb.data.padded(batches, 4))
    assert str(caught.value) == text


def test_the_size_is_at_least_one():
    with pytest.raises(ValueError, match=r"batch_size is 0; a batch needs at least 1 example\."):
        fb.data.padded([], 0)
