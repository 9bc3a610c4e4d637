"""Inputs beside the batch: they reach the loss function by name, through all that runs a step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from tests.kinds import assert_bit_equal

RANDOM = np.random.RandomState(0)
BATCHES = [
    {"x": RANDOM.standard_normal((8, 3)).astype(np.float32), "label": RANDOM.randint(0, 2, 8)}
    for _ in range(3)
]
TEACHER = {"w": jnp.asarray(RANDOM.standard_normal((3, 2)), jnp.float32)}
TEMPERATURES = (1.0, 2.0, 4.0)


def loss_fn(model, batch, *, teacher, temperature=1.0):
    seen = jax.nn.log_softmax(batch["x"] @ model["w"] / temperature)
    wanted = jax.nn.softmax(batch["x"] @ teacher["w"] / temperature)
    return -(wanted * seen).sum(-1)


def model():
    return {"w": jnp.zeros((3, 2))}


def by_hand(batches, teachers, temperatures):
    """The same training in plain JAX and Optax."""
    params, tx = model(), optax.sgd(0.5)

    @jax.jit
    def step(params, batch, teacher, temperature):
        mean = lambda p: loss_fn(p, batch, teacher=teacher, temperature=temperature).mean()
        grads = jax.grad(mean)(params)
        return optax.apply_updates(params, tx.update(grads, tx.init(params))[0]), optax.tree.norm(grads)

    for batch, teacher, temperature in zip(batches, teachers, temperatures, strict=True):
        params, _ = step(params, batch, teacher, temperature)
    return params


def teachers():
    return [{"w": n * TEACHER["w"]} for n in (1.0, 2.0, 3.0)]


@pytest.mark.parametrize("options", [{}, {"accumulate": 4, "guard": fb.guard.skip()}], ids=str)
def test_a_loop_with_inputs_is_that_by_hand_and_one_program_whatever_their_values(options):
    beats = fb.four_beats(loss_fn, optax.sgd(0.5), **options)
    state, step = beats.init(model()), fb.compile(beats.train_step, on_recompile="raise")
    for batch, teacher, temperature in zip(BATCHES, teachers(), TEMPERATURES, strict=True):
        state, _ = step(state, batch, teacher=teacher, temperature=temperature)
    assert step.num_compilations == 1
    assert int(state.num_updates) == 3
    expected = by_hand(BATCHES, teachers(), TEMPERATURES)
    if options:
        np.testing.assert_allclose(state.params["w"], expected["w"], rtol=1e-6, atol=1e-7)
    else:
        assert_bit_equal(state.params, expected)
    assert float(jnp.abs(state.params["w"]).max()) > 0.1


def test_every_step_of_a_block_has_the_same_inputs():
    beats = fb.four_beats(loss_fn, optax.sgd(0.5))
    step = fb.compile(beats.train_step, on_recompile="raise")
    state, _ = step(beats.init(model()), fb.Block.stack(BATCHES), teacher=TEACHER, temperature=2.0)
    expected = by_hand(BATCHES, [TEACHER] * 3, [2.0] * 3)
    np.testing.assert_allclose(state.params["w"], expected["w"], rtol=1e-6, atol=1e-7)
    again, _ = step(beats.init(model()), fb.Block.stack(BATCHES), teacher=TEACHER, temperature=1.0)
    assert step.num_compilations == 1
    assert float(jnp.abs(again.params["w"] - state.params["w"]).max()) > 0.01


class Teacher(nnx.Module):
    def __init__(self):
        self.norm, self.out = nnx.BatchNorm(3, rngs=nnx.Rngs(0)), nnx.Linear(3, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.out(self.norm(x))


def with_module(model, batch, teacher):
    return ((batch["x"] @ model["w"] - teacher(batch["x"])) ** 2).sum(-1)


def test_an_input_may_be_a_module_which_is_only_read():
    beats, teacher = fb.four_beats(with_module, optax.sgd(0.1)), Teacher()
    teacher.eval()
    grads, _ = beats.gradient(beats.init(model()), BATCHES[0], teacher=teacher)
    x = BATCHES[0]["x"]
    np.testing.assert_allclose(grads["w"], -2 * x.T @ np.asarray(teacher(x)) / 8, rtol=1e-5, atol=1e-6)
    state, _ = fb.compile(beats.train_step)(beats.init(model()), BATCHES[0], teacher=teacher)
    np.testing.assert_allclose(state.params["w"], -0.1 * grads["w"], rtol=1e-5, atol=1e-6)
    teacher.train()
    before = jax.tree.map(jnp.copy, jax.tree.leaves(teacher))
    with pytest.raises(ValueError) as caught:
        beats.train_step(beats.init(model()), BATCHES[0], teacher=teacher)
    assert str(caught.value) == (
        "loss_fn writes to teacher.norm.mean.value, and an input of a step is only read: the write would be "
        "lost. Keep what changes in the model, or put a module into evaluation mode, module.eval()."
    )
    assert_bit_equal(jax.tree.leaves(teacher), before)


def test_an_evaluation_has_the_defaults_or_what_the_beats_hold():
    def penalised(model, batch, penalty=None):
        loss = (batch["x"] @ model["w"])[:, 0] ** 2
        return loss if penalty is None else loss + penalty

    beats = fb.four_beats(penalised, optax.sgd(0.1))
    state = beats.init({"w": jnp.ones((3, 1))})
    expected = np.mean((BATCHES[0]["x"].sum(1)) ** 2)
    assert fb.evaluator(beats)(state, BATCHES[:1])["loss"] == pytest.approx(expected, rel=1e-5)
    held = beats.given(penalty=2.0)
    assert fb.evaluator(held)(state, BATCHES[:1])["loss"] == pytest.approx(expected + 2, rel=1e-5)
    assert float(beats.loss(state, BATCHES[0], penalty=2.0)[0]) == pytest.approx(expected + 2, rel=1e-5)
    _, logs = held.train_step(state, BATCHES[0], penalty=3.0)  # what a call gives goes first
    assert float(logs["loss"]) == pytest.approx(expected + 3, rel=1e-5)


BEATS = fb.four_beats(loss_fn, optax.sgd(0.5))
PLAIN = fb.four_beats(lambda model, batch: (batch["x"] @ model["w"]).sum(-1), optax.sgd(0.5))
REFUSED = {
    "missing": (
        lambda state, step: BEATS.train_step(state, BATCHES[0]),
        "loss_fn needs the input 'teacher', and the step was not given it. Give the parameter a default, or "
        "pass it, train_step(state, batch, teacher=...).",
    ),
    "missing in evaluation": (
        lambda state, step: fb.evaluator(BEATS)(state, BATCHES[:1]),
        "loss_fn needs the input 'teacher', and evaluation was not given it. Give the parameter a default, "
        "or hold it in the beats, fb.evaluator(beats.given(teacher=...)).",
    ),
    "unknown": (
        lambda state, step: step(state, BATCHES[0], teacher=TEACHER, temprature=2.0),
        "train_step(state, batch, temprature=...) was called, and loss_fn has no parameter 'temprature'. It "
        "takes teacher, temperature.",
    ),
    "of none": (
        lambda state, step: PLAIN.train_step(state, BATCHES[0], teacher=TEACHER),
        "train_step(state, batch, teacher=...) was called, and loss_fn has no parameter 'teacher'. It takes "
        "no such input at all.",
    ),
    "the key": (
        lambda state, step: BEATS.train_step(state, BATCHES[0], key=jax.random.key(0)),
        "an input of loss_fn cannot have the name 'key'. The key of a step is made of state.key and "
        "state.step: state.replace(key=...) starts another.",
    ),
    "a name of the beats": (
        lambda state, step: fb.four_beats(lambda model, batch, state: model["w"], optax.sgd(0.5)),
        "an input of loss_fn cannot have the name 'state'. Rename the parameter.",
    ),
    "such a name, given": (
        lambda state, step: step(state, BATCHES[0], teacher=TEACHER, state=2.0),
        "an input of loss_fn cannot have the name 'state'. Rename the parameter.",
    ),
    "no array": (
        lambda state, step: step(state, BATCHES[0], teacher={"w": jnp.tanh}),
        "the input teacher['w'] is a PjitFunction, and a compiled step takes arrays. Give the arrays of a "
        "model, teacher=fb.split(model)[1], and merge them in loss_fn; define in loss_fn, or around it, what "
        "never changes.",
    ),
}


def test_a_step_of_ones_own_names_its_inputs_as_it_likes_and_its_errors_stay():
    def own(state, batch, *, key):
        if key.shape:
            raise ValueError("one key, please")
        return state + jax.random.uniform(key), {}

    step = fb.compile(own)
    total, _ = step(jnp.zeros(()), BATCHES[0], key=jax.random.key(0))
    assert float(total) == float(jax.random.uniform(jax.random.key(0)))
    with pytest.raises(ValueError, match="one key, please"), pytest.warns(fb.compiling.RecompilationWarning):
        step(jnp.zeros(()), BATCHES[0], key=jax.random.split(jax.random.key(0)))


def test_an_array_of_the_state_itself_is_no_input_and_the_state_stays_good():
    state, step = BEATS.init(model()), fb.compile(BEATS.train_step)
    with pytest.raises(ValueError) as caught:
        step(state, BATCHES[0], teacher=state.params)
    assert str(caught.value) == (
        "the input teacher['w'] is an array of the state itself, whose buffers the step takes. Give a copy, "
        "such as that of state.replace().params or state.model."
    )
    _, logs = step(state, BATCHES[0], teacher=state.replace().params)
    assert float(logs["grad_norm"]) == 0


@pytest.mark.parametrize("case", REFUSED)
def test_refused_inputs(case):
    call, text = REFUSED[case]
    state, step = BEATS.init(model()), fb.compile(BEATS.train_step)
    with fb.testing.expect_compilations(0), pytest.raises(TypeError) as caught:
        call(state, step)
    assert str(caught.value) == text


def test_a_change_of_form_is_told_by_the_name_of_the_input():
    step = fb.compile(BEATS.train_step)
    state, _ = step(BEATS.init(model()), BATCHES[0], teacher=TEACHER, temperature=1.0)
    with pytest.warns(fb.compiling.RecompilationWarning) as caught:
        step(state, BATCHES[0], teacher=TEACHER, temperature=1)
    assert str(caught[0].message) == (
        "train_step compiles again: temperature changed from float32[] (weakly typed) to int32[] (weakly "
        "typed). Give every call arguments of one form (pad short batches), or pass on_recompile='ignore'."
    )
