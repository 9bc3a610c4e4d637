"""guard.locate: the first operation that made a NaN or Inf, with the line of the user's that ran it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
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


def overflow(model, batch):
    return jnp.exp(model["w"] * batch["x"][:, 0])  # overflows


def division(model, batch):
    scale = batch["x"][:, 0] - 1
    return model["w"] * (1 / scale)  # by zero


def under_a_mask(model, batch):
    x = batch["x"][:, 0] - 1
    entropy = jnp.where(x > 0, x * jnp.log(x), 0)  # NaN that goes no further
    return model["w"] * (entropy + 1e38 * (x + 9))  # too large


def in_a_scan(model, batch):
    square = lambda x, _: (x * x, x)  # again and again
    return model["w"] * jax.lax.scan(square, 1e3 * batch["x"][:, 0], length=5)[0]


def in_a_branch(model, batch):
    x = batch["x"][:, 0]
    powers = lambda x: jnp.exp(x)  # this branch
    return model["w"] * jax.lax.cond(x.sum() > 0, powers, jnp.sin, 100 * x)


def in_a_while(model, batch):
    x = jax.lax.while_loop(
        lambda carry: carry[0] < 9,
        lambda carry: (carry[0] + 1, jax.lax.stop_gradient(carry[1] ** 3)),  # many times
        (0, 10 * batch["x"][:, 0]),
    )[1]
    return model["w"] * x


def from_a_constant(model, batch):
    x = jnp.where(batch["x"] > 5, batch["x"], -jnp.inf)
    return model["w"] * (x - x.max(1, keepdims=True)).sum(1)  # Inf less Inf


MAKERS = {  # what makes it, the number made, a text of its line
    overflow: ("exp", "Inf", "# overflows", 100.0),
    division: ("div", "Inf", "# by zero", 1.0),
    under_a_mask: ("mul", "Inf", "# too large", 1.0),
    in_a_scan: ("mul", "Inf", "# again and again", 1.0),
    in_a_branch: ("exp", "Inf", "# this branch", 1.0),
    in_a_while: ("integer_pow", "Inf", "# many times", 1.0),
    from_a_constant: ("sub", "NaN", "# Inf less Inf", 1.0),
}


@pytest.mark.parametrize("options", [{}, {"guard": guard.skip(), "accumulate": 2, "rolled": True}])
@pytest.mark.parametrize("loss_fn", MAKERS, ids=lambda function: function.__name__)
def test_the_first_bad_number_of_finite_ones_is_named_whatever_it_is(loss_fn, options):
    what, made, text, weight = MAKERS[loss_fn]
    beats = fb.four_beats(loss_fn, optax.sgd(0.1), **options)
    found = guard.locate(beats, beats.init({"w": jnp.float32(weight)}), BATCH)
    assert (found.what, found.made, found.line) == (what, made, line_of(loss_fn, text))
    assert str(found).startswith(f"the first {made} was made by {what} in ")


def test_a_bad_number_that_goes_no_further_is_not_meant():
    def entropy(model, batch):
        x = batch["x"][:, 0] - 1
        return model["w"] * jnp.where(x > 0, x * jnp.log(x), 0)

    beats = fb.four_beats(entropy, optax.sgd(0.1))
    assert guard.locate(beats, beats.init({"w": jnp.ones(())}), BATCH) is None


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
    assert str(found) == "batch['x'] holds NaN or Inf before the step, in examples 1, 3"
    spoiled = state.replace(params={**state.params, "b": jnp.array([0, jnp.inf])})
    assert (
        str(guard.locate(beats, spoiled, kind.batch(0, 4))) == "params['b'] holds NaN or Inf before the step"
    )


def test_where_nothing_is_bad_nothing_is_found():
    kind = KINDS["dict"]
    beats = fb.four_beats(lambda model, batch: kind.items(model, batch)[0], optax.sgd(0.1))
    data = fb.data.Arrays(**kind.batch(0, 8))
    assert guard.locate(beats, beats.init(kind.make(0)), data.batches(4)[0]) is None
