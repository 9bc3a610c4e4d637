"""split and merge over a table of kinds of models."""

import copy
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fourbeat as fb


class Params(NamedTuple):
    weight: jax.Array
    bias: jax.Array


class Counted(nnx.Variable):
    """A custom variable type."""


class Everything(nnx.Module):
    """One of each: partial, closure, shared parameter, List, Dict, statistics, keys, custom variables."""

    def __init__(self, *, rngs, width=4):
        self.conv = nnx.Conv(1, width, kernel_size=(3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.scale = lambda x: x * width
        self.layers = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(2)])
        self.heads = nnx.Dict(a=nnx.Linear(width, 2, rngs=rngs), b=nnx.LoRA(width, 2, 2, rngs=rngs))
        self.tied = self.layers[0].kernel
        self.key = jax.random.key(3)
        self.key_in_variable = nnx.Variable(jax.random.key(4))
        self.count = Counted(jnp.array(0, jnp.int32))
        self.table = nnx.Variable({"x": jnp.ones(2), "n": (jnp.zeros(1),)})
        self.name = "everything"

    def __call__(self, x):
        self.count[...] += 1
        x = self.pool(nnx.relu(self.drop(self.norm(self.conv(x)))))
        for layer in self.layers:
            x = layer(x)
        return self.scale(
            self.heads["a"](x) + self.heads["b"](x) + x @ self.tied @ jnp.ones((x.shape[-1], 2))
        )


KINDS = {
    "module": lambda seed: Everything(rngs=nnx.Rngs(seed)),
    "modules in a dict": lambda seed: {
        "g": nnx.Linear(2, 2, rngs=nnx.Rngs(seed)),
        "n": jnp.ones(2),
    },
    "dict": lambda seed: {"w": jnp.full(3, float(seed)), "n": jnp.arange(2), "name": "a"},
    "named tuple": lambda seed: Params(jnp.full((), float(seed)), jnp.zeros(())),
    "equinox": lambda seed: eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(seed)),
    "list": lambda seed: [jnp.ones(2) * seed, (np.zeros(1, np.float32), None)],
    "array": lambda seed: jnp.ones(3) * seed,
}


@pytest.fixture(params=KINDS, name="make")
def make_kind(request):
    return KINDS[request.param]


def assert_plain(tree):
    if isinstance(tree, dict):
        assert type(tree) is dict
        for value in tree.values():
            assert_plain(value)
    else:
        assert isinstance(tree, jax.Array)
        assert not jnp.issubdtype(tree.dtype, jax.dtypes.prng_key)


def values_of(model):
    """Every array of a model, PRNG keys as data: found without fourbeat."""
    leaves = jax.tree.leaves(nnx.to_pure_dict(nnx.split(model)[1]) if has_module(model) else model)
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key) else x)
        for x in leaves
        if isinstance(x, jax.Array | np.ndarray)
    ]


def has_module(model):
    return isinstance(model, nnx.Module) or (isinstance(model, dict) and any(map(has_module, model.values())))


def test_round_trip_keeps_every_array(make):
    model = make(1)
    before = values_of(model)
    static, params, rest = fb.split(model)
    assert_plain(params)
    assert_plain(rest)
    again = fb.merge(static, params, rest)
    assert type(again) is type(model)
    for x, y, z in zip(before, values_of(again), values_of(model), strict=True):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(x, z)


def test_models_built_the_same_way_are_one_program(make):
    static, params, rest = fb.split(make(1))
    other_static, other_params, other_rest = fb.split(make(2))
    assert static is other_static
    jax.tree.map(lambda a, b: a, (params, rest), (other_params, other_rest))
    traces = []

    @partial(jax.jit, static_argnums=0)
    def through(static, params, rest):
        traces.append(1)
        return fb.split(fb.merge(static, params, rest))[1:]

    through(static, params, rest)
    through(other_static, other_params, other_rest)
    assert len(traces) == 1


def test_models_built_another_way_differ():
    statics = [
        fb.split(model)[0]
        for model in (
            Everything(rngs=nnx.Rngs(0)),
            Everything(rngs=nnx.Rngs(0), width=5),
            {"w": jnp.ones(1), "n": 1},
            {"w": jnp.ones(1), "n": True},
            {"w": jnp.ones(1), "n": jnp.ones(1)},
            eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0)),
            eqx.nn.MLP(2, 2, 4, 1, activation=jnp.tanh, key=jax.random.key(0)),
        )
    ]
    assert len(set(statics)) == len(statics)


def test_a_forgotten_static_is_forgotten_and_copies_are_the_same():
    static = fb.split({"w": jnp.ones(1)})[0]
    assert copy.deepcopy(static) is static
    assert copy.copy(static) is static


def test_train_mode_and_eval_mode_are_one_static_and_merge_gives_eval():
    model = Everything(rngs=nnx.Rngs(0))
    model.train()
    in_train = fb.split(model)
    model.eval()
    assert fb.split(model)[0] is in_train[0]
    merged = fb.merge(*in_train)
    assert merged.drop.deterministic
    assert merged.norm.use_running_average


def test_shared_parameters_appear_once_and_stay_shared():
    static, params, rest = fb.split(Everything(rngs=nnx.Rngs(0)))
    assert "tied" not in params
    merged = fb.merge(static, params, rest)
    assert merged.tied is merged.layers[0].kernel


@pytest.mark.parametrize(
    ("wrt", "selected"),
    [
        (nnx.Param, 12),
        (nnx.LoRAParam, 2),
        (nnx.PathContains("conv"), 2),
        (lambda path, value: path[-1] == "bias", 5),
        (nnx.All(nnx.Param, nnx.Not(nnx.LoRAParam)), 10),
        (nnx.Any(nnx.LoRAParam, nnx.PathContains("conv")), 4),
    ],
)
def test_wrt_takes_any_nnx_filter(wrt, selected):
    model = Everything(rngs=nnx.Rngs(0))
    static, params, rest = fb.split(model, wrt)
    expected = nnx.to_flat_state(nnx.split(model, wrt, ...)[1])
    assert len(jax.tree.leaves(params)) == len(expected) == selected
    for x, y in zip(values_of(model), values_of(fb.merge(static, params, rest)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_wrt_of_a_plain_pytree_is_a_function_of_path_and_leaf():
    tree = {"body": {"w": jnp.ones(2)}, "head": {"w": jnp.ones(3)}}
    _, params, rest = fb.split(tree, lambda path, leaf: path[0] == "head" and leaf.size == 3)
    assert list(params) == ["head"]
    assert list(rest) == ["body"]


ERRORS = {
    "nothing selected": (
        lambda: fb.split({"a": 1.0, "n": jnp.arange(2)}),
        "wrt=None selects no parameter: the model holds model.n. Choose a filter that matches one of these "
        "(Python numbers are constants: make them arrays to train them).",
    ),
    "integers selected": (
        lambda: fb.split({"n": jnp.arange(2)}, lambda path, leaf: True),
        "selects model.n of dtype int32, which has no gradient. Narrow wrt to floating-point arrays.",
    ),
    "no function": (
        lambda: fb.split({"a": jnp.ones(1)}, "a"),
        "wrt is 'a', but this model is a plain pytree. Pass a function wrt(path, leaf) -> bool, such as "
        "lambda path, leaf: path[0] == 'head'.",
    ),
    "missing": (
        lambda: fb.merge(fb.split({"a": jnp.ones(1)})[0], {}, {}),
        "cannot merge: params['a'] is missing. Pass the params and the rest that split gave, or trees of the "
        "same keys.",
    ),
    "not an array": (
        lambda: fb.split(WithText()),
        "model.text is a str, not an array. Make it a static attribute, or an array.",
    ),
}


class WithText(nnx.Module):
    def __init__(self):
        self.text = nnx.Variable("hello")
        self.w = nnx.Param(jnp.ones(1))


@pytest.mark.parametrize("case", ERRORS)
def test_error_texts(case):
    call, text = ERRORS[case]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value).endswith(text)


class Writes(nnx.Module):
    """Does one thing in its forward pass that a compiled step cannot keep."""

    def __init__(self, what):
        self.w = nnx.Param(jnp.ones(2))
        self.stat = nnx.BatchStat(jnp.zeros(()))
        self.n = 0
        self.what = what

    def __call__(self):
        if self.what == "counts":
            self.n += 1
        if self.what == "sows":
            self.seen = nnx.Intermediate(self.w[...])
        if self.what == "writes a parameter":
            self.w[...] = self.w[...] * 2
        if self.what == "changes a dtype":
            self.stat = nnx.BatchStat(jnp.zeros((), jnp.int32))
        if self.what == "changes a shape":
            self.stat.set_value(jnp.zeros(3))


WRITES = {
    "counts": "the forward pass changed the model's structure: model.n changed from 0 to 1. ",
    "sows": "the forward pass changed the model's structure: model.seen appeared. ",
    "writes a parameter": "the forward pass wrote the parameter model.w. ",
    "changes a dtype": "the forward pass changed model.stat from float32[] to int32[]. ",
    "changes a shape": "the forward pass changed model.stat from float32[] to float32[3]. ",
}


@pytest.mark.parametrize("what", WRITES)
def test_what_a_step_cannot_keep_is_an_error_that_names_the_path(what):
    from fourbeat.explicit.splitting import read_back

    static, params, rest = fb.split(Writes(what))
    model = fb.merge(static, params, rest)
    assert read_back(static, model, params, rest) == rest
    model()
    with pytest.raises(ValueError) as caught:
        read_back(static, model, params, rest)
    assert str(caught.value).startswith(WRITES[what])
