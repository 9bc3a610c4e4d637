"""Predictions in files: the entries of the predictor in memory, whole or absent."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb

X = np.arange(23, dtype=np.float32)


def make(predict):
    beats = fb.four_beats(lambda model, batch: batch["x"] * model["w"], optax.sgd(0.1), predict=predict)
    return fb.predictor(beats), beats.init({"w": jnp.full((), 2.0)})


def assert_same_files(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert isinstance(one, np.memmap) and not one.flags.writeable
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("resident", [True, False])
def test_a_file_holds_what_the_predictor_gives_and_replaces_an_earlier_one(resident, tmp_path):
    predict, state = make(lambda model, batch: batch["x"][:, None] * model["w"] + jnp.arange(3))
    file = tmp_path / "new" / "scores.npy"
    batches = fb.data.Arrays(x=X).batches(4, resident=resident)
    for _ in range(2):
        got = predict(state, batches, out=file)
        assert_same_files(got, predict(state, batches))
    np.testing.assert_array_equal(np.load(file), 2 * X[:, None] + np.arange(3))
    assert os.listdir(file.parent) == ["scores.npy"]


def test_batches_in_another_order_are_put_in_the_order_of_the_data(tmp_path):
    predict, state = make(lambda model, batch: {"sum": batch["text"].sum(1), "n": (batch["text"] > 0).sum(1)})
    texts = [np.arange(1, 2 + (7 * i) % 11) for i in range(23)]
    data = fb.data.Examples([{"text": text} for text in texts], collate=fb.data.pad_to(text=[4, 8, 12]))
    batches = data.batches(4, order=fb.data.by_length([len(text) for text in texts], (4, 8, 12)))
    got = predict(state, batches, out=tmp_path / "scores")
    assert sorted(os.listdir(tmp_path / "scores")) == ["n.npy", "sum.npy"]
    assert got["sum"].tolist() == [int(text.sum()) for text in texts]
    assert got["n"].tolist() == [len(text) for text in texts]


def test_data_larger_than_memory_are_written_as_they_come(tmp_path):
    predict, state = make(lambda model, batch: batch["x"][:, None] * jnp.ones(2**15))  # 1 MiB a batch
    sizes = []

    def stream():
        for start in range(0, 320, 8):
            if start > 160:  # 16 MiB may be under way
                sizes.append((tmp_path / "a.npy.writing").stat().st_size)
            yield {"x": np.arange(start, start + 8, dtype=np.float32)}

    got = predict(state, stream(), out=tmp_path / "a.npy")
    np.testing.assert_array_equal(got[:, -1], np.arange(320))
    assert np.diff(sizes).min() == 2**20  # one batch is written for each that comes


def half(model, batch):
    return (batch["x"] * model["w"]).astype(jnp.bfloat16)


def pair(model, batch):
    return batch["x"], {"y": batch["x"]}


REFUSED = {
    "a folder for one array": (
        lambda model, batch: batch["x"], "scores",
        "out is '{}', and predict returns a single array. Give a file that ends in .npy.",
    ),
    "a file for two": (
        pair, "scores.npy",
        "out is '{}', and predict returns 2 arrays. Give a folder for them, without .npy.",
    ),
    "a folder that is there": (pair, "", "{} is there already. Give a new folder for the outputs."),
    "bfloat16": (
        half, "scores.npy",
        "predict returned outputs of bfloat16, which NumPy's files have no name for. Return "
        "outputs.astype('float32').",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_and_leaves_nothing(case, tmp_path):
    function, name, text = REFUSED[case]
    predict, state = make(function)
    with pytest.raises(ValueError) as caught:
        predict(state, fb.data.Arrays(x=X).batches(4), out=tmp_path / name)
    assert str(caught.value) == text.format(tmp_path / name if name else tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_failure_on_the_way_leaves_the_earlier_file(tmp_path):
    predict, state = make(lambda model, batch: batch["x"] * model["w"])
    file = tmp_path / "scores.npy"
    predict(state, fb.data.Arrays(x=X).batches(4), out=file)

    def stream():
        yield {"x": X}
        raise OSError("the cable is out")

    with pytest.raises(OSError, match="the cable is out"):
        predict(state, stream(), out=file)
    np.testing.assert_array_equal(np.load(file), 2 * X)
    with pytest.raises(
        ValueError, match=r"predict returned arrays of shape \(4,\) for one batch and \(4, 2\)"
    ):
        predict(state, [{"x": np.ones(4)}, {"x": np.ones((4, 2))}], out=file)
    assert os.listdir(tmp_path) == ["scores.npy"]
