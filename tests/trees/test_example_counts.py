"""How many examples a batch has: one answer, whoever asks."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.trees.example_counts import common_num_examples, known_num_examples, num_examples

KEY = jax.random.key(0)
COUNTED = {
    "one column": ({"x": np.ones((4, 3))}, 4),
    "a scalar before it": ({"beta": 0.5, "x": np.ones(8)}, 8),
    "a scalar after it": ({"x": np.ones(8), "zeta": np.float32(2)}, 8),
    "a key": ({"key": KEY, "x": jnp.ones((2, 5))}, 2),
    "nested": ({"x": {"a": np.ones((3, 7)), "b": (np.ones(3), None)}}, 3),
    "a tuple": ((np.ones((6, 2)), np.ones(6)), 6),
    "an array": (np.ones((5, 2)), 5),
    "nothing": ({}, 1),
    "a column of None": ({"x": np.ones(4), "weight": None}, 4),
    "no examples": ({"x": np.ones((0, 3))}, 0),
    "a mapping of another kind": (OrderedDict(y=np.ones(3), x=np.ones((3, 2))), 3),
    "by its weight": ({"nodes": np.ones((9, 3)), "edges": np.ones((20, 2)), "weight": np.ones((4, 2))}, 4),
}
UNCOUNTED = {
    "scalars": {"x": 1.0, "y": np.float32(2)},
    "a single example": {"image": np.ones((28, 28)), "box": np.ones(4), "label": 3},
    "a scalar weight": {"x": np.ones(3), "y": np.ones(2), "weight": 1.0},
}


@pytest.mark.parametrize("kind", COUNTED)
def test_examples_are_those_of_the_common_leading_axis(kind):
    batch, num = COUNTED[kind]
    assert known_num_examples(batch) == num_examples(batch) == num
    assert common_num_examples(batch) == (None if kind == "by its weight" else num)


@pytest.mark.parametrize("kind", UNCOUNTED)
def test_examples_that_nothing_tells_are_no_number(kind):
    assert known_num_examples(UNCOUNTED[kind]) is None
    with pytest.raises(ValueError, match=r"cannot count the examples of batch: .*batch\['(x|image)'\] \("):
        num_examples(UNCOUNTED[kind])


@pytest.mark.parametrize("first", ["a_beta", "z_beta"])
@pytest.mark.parametrize("wrap", [list, iter])
def test_step_evaluator_and_loop_count_a_batch_alike(first, wrap):
    """A scalar loss counts as many examples as its batch has: 8 of loss 0 and 2 of loss 100."""

    def loss_fn(model, batch):
        return ((model["w"] * batch["x"] - batch["y"]) ** 2).mean()

    def batch(num, y):
        return {"x": np.ones(num, np.float32), first: np.float32(0.3), "y": np.full(num, y, np.float32)}

    batches = [batch(8, 1.0), batch(2, 11.0)]
    beats = fb.four_beats(loss_fn, optax.sgd(0.0))
    state = beats.init({"w": jnp.ones(())})
    assert fb.evaluator(beats)(state, batches)["loss"] == pytest.approx((8 * 0 + 2 * 100) / 10)
    assert [float(beats.train_step(state, each)[1]["weight"]) for each in batches] == [8, 2]
    assert [tick.examples for tick in fb.loop(wrap(batches), until=fb.at(epochs=1))] == [8, 10]


@pytest.mark.parametrize(
    "loss", [lambda x: x, lambda x: x.mean(), lambda x: x.reshape(x.shape[0], -1).sum(1)]
)
@pytest.mark.parametrize("options", [{}, {"guard": fb.guard.skip()}, {"accumulate": 2}], ids=str)
@pytest.mark.parametrize("weight", [{}, {"weight": np.ones(0, np.float32)}], ids=["plain", "weighted"])
def test_an_empty_batch_is_named_by_step_and_evaluator(loss, options, weight):
    beats = fb.four_beats(lambda model, batch: loss(model["w"] * batch["x"]), optax.sgd(0.1), **options)
    state = beats.init({"w": jnp.ones(())})
    batch = {"x": np.ones((0, 2), np.float32), **weight}
    columns = "batch['weight'] (0,), batch['x'] (0, 2)" if weight else "batch['x'] (0, 2)"
    for call in (
        lambda: fb.compile(beats.train_step, donate=False)(state, batch),
        lambda: fb.evaluator(beats)(state, [{"x": np.ones((2, 2), np.float32)}, batch]),
        lambda: beats.loss(state, batch),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == (
            f"the batch is empty: {columns}. The mean over no example is no number. Skip such a batch, or "
            "leave it out where the batches are made."
        )


@pytest.mark.parametrize("size", [1, 3])
def test_a_problem_without_data_trains_on_batches_without_columns(size):
    """Against gradient descent by hand: w - 0.1 * 2 * (w - 3)."""
    beats = fb.four_beats(
        lambda model, batch: (model["w"] - 3) ** 2, optax.sgd(0.1), metrics=fb.metrics.Mean("loss")
    )
    state, step, w = beats.init({"w": jnp.zeros(())}), fb.compile(beats.train_step), np.float32(0)
    for tick in fb.loop([{}], until=fb.at(steps=5), steps_per_call=size):
        state, logs = step(state, tick.batch)
        for _ in range(tick.num_steps):
            w = w - np.float32(0.1) * 2 * (w - 3)
        assert tick.examples == tick.step and float(logs["weight"]) == 1
    assert float(state.params["w"]) == pytest.approx(w, rel=1e-6)
    assert fb.evaluator(beats)(state, [{}, {}])["value"] == pytest.approx((w - 3) ** 2, rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_weight_of_none_is_no_weight(accumulate):
    beats = fb.four_beats(lambda m, b: m["w"] * b["x"], optax.sgd(0.5), accumulate=accumulate)
    batch = {"x": np.arange(4, dtype=np.float32), "weight": None}
    state = beats.init({"w": jnp.ones(())})
    for tick in fb.loop([batch], until=fb.at(steps=1)):
        state, logs = fb.compile(beats.train_step)(state, tick.batch)
    assert float(state.params["w"]) == 1 - 0.5 * 1.5 and float(logs["weight"]) == 4
    assert fb.evaluator(beats)(state, [batch])["loss"] == 0.25 * 1.5


GRAPH = {"x": np.ones((3, 2), np.float32), "y": np.ones(2, np.float32)}


def test_a_scalar_loss_of_a_batch_whose_examples_nothing_tells_trains_and_is_not_averaged():
    """As of a graph, or of points inside and on an edge: it counts as one, where no mean is taken over it."""
    loss_fn = lambda m, b: m["w"] * b["x"].sum() * b["y"].sum()
    beats = fb.four_beats(loss_fn, optax.sgd(0.5))
    for batches in ([GRAPH] * 2, iter([GRAPH] * 2)):
        state, step = beats.init({"w": jnp.ones(())}), fb.compile(beats.train_step)
        for tick in fb.loop(batches, until=fb.at(epochs=1)):
            state, logs = step(state, tick.batch)
        assert float(state.params["w"]) == 1 - 2 * 0.5 * 12 and float(logs["weight"]) == 1
        with pytest.raises(ValueError, match="cannot count the examples of batch"):
            _ = tick.examples
    measured = fb.four_beats(loss_fn, optax.sgd(0.5), metrics=fb.metrics.Mean("loss"))
    texts = []
    for call in (
        lambda: fb.evaluator(beats)(state, [GRAPH]),
        lambda: fb.compile(measured.train_step)(measured.init({"w": jnp.ones(())}), GRAPH),
        lambda: list(fb.loop([GRAPH], until=fb.at(examples=2))),
        lambda: list(fb.loop(iter([GRAPH]), until=fb.at(examples=2))),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        texts.append(str(caught.value))
    assert (
        texts[0]
        == texts[1]
        == (
            "cannot count the examples of batch: its columns have no common leading axis: batch['x'] (3, 2), "
            "batch['y'] (2,). Give every array the same leading axis, one entry an example, and keep what "
            "belongs to all examples out of the batch (or make it a scalar). Or return one loss an example."
        )
    )
    assert all(
        text.startswith("cannot count the examples of batch: its columns have no") for text in texts[2:]
    )
