"""A state between two compiled steps: its leaves alone, until a field is read; and nobody can tell."""

import copy
import dataclasses
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.beats import UsedUpError
from tests.kinds import assert_bit_equal

BATCH = {"x": np.float32([[1.0, 2.0], [3.0, -1.0]])}
MADE = []  # one entry for each time that JAX puts a metric together


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Counted(fb.metrics.Metric):
    seen: jax.Array = field(default_factory=lambda: jnp.zeros((), jnp.int32))

    def update(self, /, *, weight=None, **values):
        return Counted(self.seen + 1)

    def merge(self, other):
        return Counted(self.seen + other.seen)

    def compute(self):
        return self.seen

    def reset(self):
        return Counted()

    def tree_flatten(self):
        return (self.seen,), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        MADE.append(leaves)
        return cls(*leaves)


@pytest.fixture(scope="module")
def stepping():
    """The compiled step, and what makes a state that two steps have gone through."""
    beats = fb.four_beats(
        lambda model, batch: ((batch["x"] @ model["net"]["w"]) - 1) ** 2, optax.adam(0.1), metrics=Counted()
    )
    start, step = beats.init({"net": {"w": jnp.ones(2)}}), fb.compile(beats.train_step)

    def stepped(num_steps=2):
        state = start.replace()
        for _ in range(num_steps):
            state, _ = step(state, BATCH)
        return state

    return step, stepped


def by_hand(num_steps, w=(1.0, 1.0)):
    tx, w = optax.adam(0.1), jnp.float32(w)
    opt_state = tx.init(w)

    @jax.jit
    def step(w, opt_state):
        grads = jax.grad(lambda w: (((jnp.asarray(BATCH["x"]) @ w) - 1) ** 2).mean())(w)
        updates, opt_state = tx.update(grads, opt_state, w)
        return optax.apply_updates(w, updates), opt_state

    for _ in range(num_steps):
        w, opt_state = step(w, opt_state)
    return w


def test_no_part_of_a_state_is_made_anew_between_steps_until_a_field_is_read(stepping):
    step, stepped = stepping
    state = stepped()
    MADE.clear()
    for _ in range(5):
        state, _ = step(state, BATCH)
    assert (int(state.step), int(state.num_updates), state.key.tolist()) == (7, 7, [0, 0])
    assert not MADE
    assert (int(state.metrics.seen), len(MADE)) == (7, 1)
    assert_bit_equal(state.params["net"]["w"], by_hand(7))
    state, _ = step(state, BATCH)  # and one whose fields were read goes on
    assert_bit_equal(state.params["net"]["w"], by_hand(8))
    assert step.num_compilations == 1


WAYS = {
    "its tree mapped": lambda state: jax.tree.map(lambda leaf: leaf, state),
    "copied": copy.copy,
    "copied deeply": copy.deepcopy,
    "a field replaced": lambda state: dataclasses.replace(state, lr_scale=jnp.ones(())),
    "replaced": lambda state: state.replace(),
    "its attributes": lambda state: fb.TrainState(
        **{each.name: getattr(state, each.name) for each in dataclasses.fields(state)}
    ),
    "out of jit": jax.jit(lambda state: state),
    "its fields read in another order": lambda state: (state.static, state.rest, state.params, state)[-1],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_state_from_a_step_is_a_state_in_every_way(stepping, way):
    step, stepped = stepping
    given = WAYS[way](stepped())
    assert jax.tree.structure(given) == jax.tree.structure(stepped())
    state, _ = step(given, BATCH)
    assert_bit_equal(state.params["net"]["w"], by_hand(3))
    assert step.num_compilations == 1


def test_a_write_into_a_field_reaches_the_next_step(stepping):
    step, stepped = stepping
    state = stepped(0)
    state.params["net"]["w"] = jnp.float32([0.5, -0.5])
    state, _ = step(state, BATCH)
    assert_bit_equal(state.params["net"]["w"], by_hand(1, (0.5, -0.5)))
    state.params["net"]["w"] = jnp.zeros(2)  # and so it does after a step
    _, logs = step(state, BATCH)
    assert float(logs["loss"]) == 1.0


def test_a_state_given_away_between_steps_says_so_and_shows_what_it_was(stepping):
    step, stepped = stepping
    state = stepped()
    step(state, BATCH)
    assert repr(state) == "TrainState(step=donated, 2 parameters in 1 arrays, with metrics)"
    for use in (lambda: state.params, lambda: state.step, lambda: step(state, BATCH), state.replace):
        with pytest.raises(UsedUpError, match=r"this state is used up: it was given to step 3, which took"):
            use()


def test_a_bad_leaf_is_named_by_its_place_in_the_state(stepping):
    step, stepped = stepping
    state = stepped()
    state.params["net"]["w"] = "ones"
    with pytest.raises(TypeError, match=r"passed to the function at path state\.params\['net'\]\['w'\]"):
        step(state, BATCH)


def test_a_function_that_reads_a_state_is_pure(stepping):
    _, stepped = stepping
    state = stepped()
    report = fb.purity.check(lambda x: x @ state.params["net"]["w"], BATCH["x"])
    assert report.is_pure and not report.findings


def test_a_step_inside_of_another_program_holds_no_tracer_back(stepping):
    step, stepped = stepping

    @jax.jit
    def twice(state):
        state, _ = step(state, BATCH)
        return step(state, BATCH)

    state, _ = twice(stepped())
    assert_bit_equal(state.params["net"]["w"], by_hand(4))
