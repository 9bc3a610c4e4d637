import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.data.arrays import Arrays
from fourbeat.data.transform import as_transform


def plain(batch):
    return batch


def with_key(batch, key):
    return {**batch, "noise": jax.random.uniform(key, (len(batch["x"]),))}


def with_keyword_key(batch, *, scale=1.0, key):
    return {**batch, "noise": scale * jax.random.uniform(key, (len(batch["x"]),))}


def with_second(batch, rng):
    return with_key(batch, rng)


def with_option(batch, scale=1.0):
    return {**batch, "x": batch["x"] * scale}


@pytest.mark.parametrize(
    ("function", "key_argument"),
    [
        (plain, None),
        (dict, None),
        (with_key, "name"),
        (with_keyword_key, "name"),
        (with_second, "position"),
        (with_option, None),
        (functools.partial(with_option, scale=2.0), None),
        (functools.partial(with_keyword_key, scale=2.0), "name"),
    ],
)
def test_whether_a_function_wants_a_key(function, key_argument):
    assert as_transform(function).key_argument == key_argument


@pytest.mark.parametrize("function", [with_key, with_keyword_key, with_second])
@pytest.mark.parametrize("place", [0, 1])
def test_the_key_is_of_seed_step_and_place(function, place):
    data = Arrays(x=np.arange(8))
    for _ in range(place):
        data = data.map(plain)
    batch = data.map(function).batches(4, seed=5)[3]
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 3), place)
    expected = jax.random.uniform(key, (4,))
    assert np.array_equal(batch["noise"], expected)
    assert np.array_equal(jax.jit(lambda batch: batch["noise"])(batch), expected)


def test_transforms_run_in_order_and_do_not_see_the_weight():
    seen = []

    def look(batch):
        seen.append(sorted(batch))
        return batch

    def rename(batch):
        return {"y": batch["x"] + 1}

    def double(batch):
        return {"y": batch["y"] * 2}

    data = Arrays(x=[1, 2, 3], weight=[0.5, 2, 3]).map(look).map(rename).map(double)
    batch = data.batches(2)[1].materialize()
    assert seen == [["x"]]
    assert {name: column.tolist() for name, column in batch.items()} == {
        "y": [8, 4],
        "weight": [3.0, 0.0],
    }


def no_dict(batch):
    return batch["x"]


def own_weight(batch):
    return {**batch, "weight": jnp.ones(2)}


@dataclasses.dataclass
class Unhashable:
    scale: float = 1.0

    def __call__(self, batch):
        return batch


ERRORS = {
    "no dict": (
        lambda: Arrays(x=[1, 2]).map(no_dict).batches(2)[0].materialize(),
        TypeError,
        "the mapped function no_dict returned an ArrayImpl; a dict of columns was expected. "
        "End it with, for example: return {**batch, 'image': image}.",
    ),
    "weight": (
        lambda: Arrays(x=[1, 2]).map(own_weight).batches(2)[0].materialize(),
        ValueError,
        "the mapped function own_weight returned a column 'weight'. The weight is taken out "
        "before mapped functions and put back after them: give it to Arrays(weight=...).",
    ),
    "not callable": (
        lambda: Arrays(x=[1, 2]).map("x"),  # pyright: ignore
        TypeError,
        "cannot map 'x': it is a str, not a function. Pass fn(batch) or fn(batch, key).",
    ),
    "no hash": (
        lambda: Arrays(x=[1, 2]).map(Unhashable()),
        TypeError,
        "cannot map a Unhashable: it has no hash, and compiled steps are found by it. "
        "Give its class a __hash__ (for a dataclass: frozen=True).",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    act, kind, text = ERRORS[name]
    with pytest.raises(kind) as caught:
        act()
    assert str(caught.value) == text
