"""guard.locate: the first operation that made a NaN, with the line of the user's that ran it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import fourbeat as fb
from fourbeat import guard
from tests.kinds import KINDS, assert_bit_equal


class Logarithm(nnx.Module):
    """A model that makes NaN of what is below 0."""

    def __init__(self, *, rngs):
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        x = self.drop(self.norm(self.linear(x)))
        return jnp.log(x - 100)  # the line


def loss_fn(model, batch):
    return model(batch["x"]).sum(1)


BATCH = {"x": np.ones((4, 3), np.float32)}


def line_of(function, text):
    lines, first = inspect.getsourcelines(function)
    return first + next(i for i, line in enumerate(lines) if text in line)


def test_the_operation_and_its_line_are_named_and_the_state_is_as_it_was():
    beats = fb.four_beats(loss_fn, optax.adam(1e-2), guard=guard.skip())
    state = beats.init(Logarithm(rngs=nnx.Rngs(0)))
    before = state.replace()
    after, _ = fb.compile(beats.train_step, donate=False)(state, BATCH)
    found = guard.locate(beats, after, BATCH)
    line = line_of(Logarithm.__call__, "# the line")
    assert (found.what, found.function, found.line) == ("log", "Logarithm.__call__", line)
    assert found.file == __file__
    assert str(found) == f"the first NaN was made by log in Logarithm.__call__, {__file__}:{line}"
    assert_bit_equal(after.replace(step=0, guard=before.guard), before)


def test_a_skipped_step_is_repeated_with_its_own_key():
    def loss_fn(model, batch, key):
        return model["w"] * jnp.log(jnp.where(jax.random.uniform(key) < 0.5, -1.0, 1.0) * batch["x"][:, 0])

    beats = fb.four_beats(loss_fn, optax.sgd(0.1), guard=guard.skip())
    state, step = beats.init({"w": jnp.ones(())}), fb.compile(beats.train_step)
    found = []
    for _ in range(6):
        num_bad = int(state.guard.num_bad)
        state, _ = step(state, BATCH)
        if int(state.guard.num_bad) > num_bad:
            found.append(guard.locate(beats, state, BATCH).what)
    assert len(found) in range(1, 6) and set(found) == {"log"}


def test_a_nan_of_the_backward_pass_is_named_by_its_forward_line():
    def root(model, batch):
        return jnp.sqrt(model["w"] * 0) * 0 + batch["x"][:, 0]

    beats = fb.four_beats(root, optax.sgd(0.1))
    found = guard.locate(beats, beats.init({"w": jnp.ones(())}), BATCH)
    assert found.line == line_of(root, "jnp.sqrt")


def test_an_update_that_makes_a_nan_is_named_too():
    tx = optax.chain(optax.scale_by_adam(eps=0.0), optax.scale(0.1))
    beats = fb.four_beats(lambda model, batch: model["w"] * 0 + batch["x"][:, 0], tx)
    found = guard.locate(beats, beats.init({"w": jnp.ones(())}), BATCH)
    assert found.what == "div"


def test_a_bad_input_is_named_before_any_operation():
    kind = KINDS["dict"]
    beats = fb.four_beats(lambda model, batch: kind.items(model, batch)[0], optax.sgd(0.1))
    state = beats.init(kind.make(0))
    batch = kind.batch(0, 4)
    batch["x"][[1, 3], 0] = np.nan
    found = guard.locate(beats, state, batch)
    assert str(found) == "batch['x'] holds NaN or Inf before the step, in rows 1, 3"
    spoiled = state.replace(params={**state.params, "b": jnp.array([0, jnp.inf])})
    assert (
        str(guard.locate(beats, spoiled, kind.batch(0, 4))) == "params['b'] holds NaN or Inf before the step"
    )


def test_where_nothing_is_bad_nothing_is_found():
    kind = KINDS["dict"]
    beats = fb.four_beats(lambda model, batch: kind.items(model, batch)[0], optax.sgd(0.1))
    data = fb.data.Arrays(**kind.batch(0, 8))
    assert guard.locate(beats, beats.init(kind.make(0)), data.batches(4)[0]) is None
