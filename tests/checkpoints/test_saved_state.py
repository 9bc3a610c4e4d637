"""Checkpoints of states that held step, num_updates and key as arrays of their own still restore."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.beats.saved_state import as_states, laid_out
from tests.kinds import assert_bit_equal

# written by a fourbeat whose states held each number by itself: the three steps below, of exact numbers
EARLIER = Path(__file__).with_name("of_separate_numbers")


@pytest.fixture(scope="module", name="beats")
def make_beats():
    return fb.four_beats(
        lambda model, batch, key: model["w"] * batch["x"],
        optax.sgd(0.5, momentum=0.5),
        metrics=fb.metrics.Mean("loss"),
        guard=fb.guard.skip(),
        ema=0.5,
    )


@pytest.fixture(scope="module", name="trained")
def train(beats):
    state = start(beats)
    step = jax.jit(beats.train_step)
    for x in (1.0, np.nan, 2.0):
        state, _ = step(state, {"x": jnp.array([x])})
    return state


def start(beats, **kwargs):
    return beats.init({"w": jnp.array([1.0]), "n": jnp.array(3)}, **{"key": 7, **kwargs})


@pytest.fixture(name="earlier")
def copy_earlier(tmp_path):
    return fb.Checkpoints(shutil.copytree(EARLIER, tmp_path / "earlier"))


def test_an_earlier_state_restores_with_every_bit(beats, trained, earlier):
    like = start(beats, key=0)
    restored = earlier.restore(like)
    assert_bit_equal(restored, trained)
    assert (int(restored.step), int(restored.num_updates)) == (3, 2)
    assert restored.key.tolist() == jax.random.key_data(jax.random.key(7)).tolist()
    assert restored.numbers.sharding == like.numbers.sharding
    shapes = jax.eval_shape(lambda: start(beats))
    assert_bit_equal(earlier.restore(shapes), trained)


def test_a_part_of_an_earlier_state_restores(earlier):
    others = fb.four_beats(lambda model, batch: model["w"] * batch["x"], optax.adam(0.1))
    restored, mismatch = earlier.restore(start(others, key=1), partial=True)
    assert (int(restored.step), int(restored.num_updates), restored.key.tolist()) == (3, 2, [0, 7])
    assert restored.params["w"].tolist() == [-0.75]
    assert "tree.numbers" not in str(mismatch)


def test_a_state_is_saved_in_the_layout_of_before(trained, earlier, tmp_path):
    with fb.Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.save(3, trained)
    of_both = [
        {leaf["path"]: leaf for leaf in digest["leaves"]}
        for digest in map(digest_of, (earlier.directory, tmp_path / "new"))
    ]
    assert of_both[0] == of_both[1]


def digest_of(directory):
    (path,) = directory.glob("*/digest.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("to", [lambda leaf: leaf, np.asarray, lambda leaf: jnp.stack([leaf, leaf])])
def test_layouts_are_inverse_of_each_other(trained, to):
    state = jax.tree.map(to, trained)
    tree = {"a": [state], "b": np.float32(3)}
    saved = laid_out(tree)["a"][0]
    assert np.shape(saved.step) == state.numbers.shape[:-1]
    again = as_states(laid_out(tree))
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert [type(leaf) for leaf in jax.tree.leaves(again)] == [type(leaf) for leaf in jax.tree.leaves(tree)]
    assert_bit_equal(again, tree)
