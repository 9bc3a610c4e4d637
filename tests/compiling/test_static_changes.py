"""Two calls that are alike in all arrays: the first static part that differs is named, and why."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat.compiling import RecompilationWarning


class Shape:
    """Equal to itself alone."""


class WithoutHash:
    __hash__ = None


class Prior(nnx.Module):
    def __init__(self, shape_info):
        self.shape_info = shape_info


class Net(nnx.Module):
    def __init__(self, shape_info, name="net"):
        self.prior, self.name = Prior(shape_info), name
        self.linear = nnx.Linear(2, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.linear(x)


def doubled():
    return (
        fb.data.Arrays(x=np.ones((4, 2), np.float32)).map(lambda batch: {"x": 2 * batch["x"]}).batches(2)[0]
    )


def keyed(batch, key):
    return batch


def of_seed(seed):
    return fb.data.Arrays(x=np.ones((4, 2), np.float32)).map(keyed).batches(2, seed=seed)[0]


def tree(constant):
    return {"w": jnp.ones(()), "constant": constant}


PLAIN = {"x": np.ones((2, 2), np.float32)}
SHAPE = Shape()
IDENTITY = (
    "is compared by identity, and this is another {}: build it once, or give its class __eq__ and __hash__"
)
KINDS = {
    "an object": (
        Net(Shape()),
        Net(Shape()),
        PLAIN,
        PLAIN,
        "model.prior.shape_info " + IDENTITY.format("Shape"),
    ),
    "an object in a list": (
        Net((1, [Shape()])),
        Net((1, [Shape()])),
        PLAIN,
        PLAIN,
        "model.prior.shape_info " + IDENTITY.format("Shape"),
    ),
    "an object without a hash": (
        Net(WithoutHash()),
        Net(WithoutHash()),
        PLAIN,
        PLAIN,
        "model.prior.shape_info " + IDENTITY.format("WithoutHash"),
    ),
    "an object of a tree": (
        tree(Shape()),
        tree(Shape()),
        PLAIN,
        PLAIN,
        "model.constant " + IDENTITY.format("Shape"),
    ),
    "a constant": (Net(SHAPE), Net(SHAPE, "other"), PLAIN, PLAIN, "model.name changed from 'net' to 'other'"),
    "a constant of a tree": (tree("a"), tree("b"), PLAIN, PLAIN, "model.constant changed from 'a' to 'b'"),
    "a tuple": (
        Net((1, ("a",))),
        Net((1, ("b",))),
        PLAIN,
        PLAIN,
        "model.prior.shape_info changed from (1, ('a',)) to (1, ('b',))",
    ),
    "a mapped function": (
        Net(SHAPE),
        Net(SHAPE),
        doubled(),
        doubled(),
        "the function mapped over the batch, <lambda>, is compared by identity, and this is another: pass "
        "the same function object to every .map",
    ),
    "a seed": (
        Net(SHAPE),
        Net(SHAPE),
        of_seed(0),
        of_seed(1),
        "the seed of the batch's mapped functions changed from 0 to 1",
    ),
    "nothing": (Net(SHAPE), Net(SHAPE), PLAIN, PLAIN, None),
}


def loss_fn(model, batch):
    return (model(batch["x"]) ** 2).mean(-1) if callable(model) else model["w"] * batch["x"].sum(-1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_static_part_that_differs_is_named(kind, recwarn):
    one, other, before, after, text = KINDS[kind]
    beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    step = fb.compile(beats.train_step)
    step(beats.init(one), before)
    step(beats.init(other), after)
    expected = (
        []
        if text is None
        else [
            f"train_step compiles again: the static structure changed: {text}. Give every call arguments of "
            "one form (pad short batches), or pass on_recompile='ignore'."
        ]
    )
    assert [str(w.message) for w in recwarn if w.category is RecompilationWarning] == expected
    assert step.num_compilations == 1 + len(expected)
