"""split and merge over a table of kinds of models."""

import copy
from functools import partial
from typing import NamedTuple

import equinox as eqx
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
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


LIST = [jnp.ones(2), {"w": jnp.ones(3), "n": jnp.arange(2)}, None]


def mlp():
    return eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0))


def last_layer_alone():
    spec = jax.tree.map(lambda _: False, mlp())
    return eqx.tree_at(lambda net: (net.layers[-1].weight, net.layers[-1].bias), spec, (True, True))


BOOLEANS = {  # a model, a tree of booleans, and the paths that it selects
    "like a list": (LIST, [True, {"w": False, "n": False}, None], [(0,)]),
    "its upper part": (LIST, [False, {"w": True, "n": False}], [(1, "w")]),
    "dicts by path": (LIST, {0: False, 1: {"w": np.True_, "n": False}}, [(1, "w")]),
    "one for all below": ({"head": {"w": jnp.ones(1), "b": jnp.ones(1)}, "body": jnp.ones(2)},
                          {"head": True, "body": False}, [("head", "b"), ("head", "w")]),
    "like a named tuple": (Params(jnp.ones(2), jnp.ones(1)), Params(True, False), [("weight",)]),
    "like an Equinox module": (mlp(), last_layer_alone(), [("layers", 1, "weight"), ("layers", 1, "bias")]),
    "a module that is a function too": (
        mlp(), jax.tree.map(eqx.is_inexact_array, mlp()),
        [("layers", i, name) for i in range(2) for name in ("weight", "bias")],
    ),
    "nnx.map_state": (
        nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.Linear(2, 2, rngs=nnx.Rngs(0))]),
        nnx.map_state(
            lambda path, _: path[-1] == "kernel",
            nnx.state(nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.Linear(2, 2, rngs=nnx.Rngs(0))])),
        ),
        [(0, "kernel"), (1, "kernel")],
    ),
    "jax.tree.map over an NNX state": (
        nnx.BatchNorm(2, rngs=nnx.Rngs(0)),
        jax.tree.map(lambda leaf: leaf.sum() == 2, nnx.state(nnx.BatchNorm(2, rngs=nnx.Rngs(0)), nnx.Param)),
        [("scale",)],
    ),
    "jax.tree.map over an NNX module": (
        nnx.Linear(2, 2, rngs=nnx.Rngs(0)),
        jax.tree.map(lambda leaf: leaf.ndim == 1, nnx.Linear(2, 2, rngs=nnx.Rngs(0))),
        [("bias",)],
    ),
    "of modules in a list": (
        [nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.Linear(2, 2, rngs=nnx.Rngs(0))], [False, True],
        [(1, "bias"), (1, "kernel")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BOOLEANS)
def test_wrt_takes_a_tree_of_booleans(case):
    model, wrt, selected = BOOLEANS[case]
    static, params, rest = fb.split(model, wrt)
    assert [path for path, is_param in static.places if is_param] == selected
    assert len(jax.tree.leaves(params)) == len(selected)
    for x, y in zip(values_of(model), values_of(fb.merge(static, params, rest)), strict=True):
        np.testing.assert_array_equal(x, y)


class Stateful(eqx.Module):
    norm: eqx.nn.BatchNorm
    out: eqx.nn.Linear

    def __init__(self, key):
        self.norm = eqx.nn.BatchNorm(3, "batch", mode="batch")
        self.out = eqx.nn.Linear(3, 1, key=key)

    def __call__(self, x, state):
        x, state = self.norm(x, state)
        return self.out(x)[0], state


STATEFUL = {
    "pair": lambda net, state: (net, state),
    "dict": lambda net, state: {"net": net, "state": state},
    "in a list": lambda net, state: [net, {"deep": (state,)}],
    "not taken out yet": lambda net, state: Stateful(jax.random.key(0)),
}


@pytest.mark.parametrize("case", STATEFUL)
def test_what_equinox_keeps_as_state_is_not_trained_by_default(case):
    net, state = eqx.nn.make_with_state(Stateful)(jax.random.key(0))
    model = STATEFUL[case](net, state)
    static, params, rest = fb.split(model)
    assert len(jax.tree.leaves(params)) == 4
    assert len(jax.tree.leaves(rest)) == 3
    assert all(str(path[-1]) in ("weight", "bias") for path, is_param in static.places if is_param)
    for x, y in zip(values_of(model), values_of(fb.merge(static, params, rest)), strict=True):
        np.testing.assert_array_equal(x, y)
    selected = lambda path, leaf: jnp.issubdtype(leaf.dtype, jnp.inexact)
    assert len(jax.tree.leaves(fb.split(model, selected)[1])) == 6  # who asks for them gets them


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
        "lambda path, leaf: path[0] == 'head', or a tree of booleans, one for each array.",
    ),
    "no filter": (
        lambda: fb.split(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), {"kernel": "yes"}),
        "wrt is {'kernel': 'yes'}, but this model is an NNX module. Pass an nnx filter, such as nnx.Param, "
        "or a tree of booleans, one for each array.",
    ),
    "booleans of another structure": (
        lambda: fb.split(
            {"head": {"w": jnp.ones(1)}, "body": jnp.ones(2)}, {"head": {"w": True, "b": False}}
        ),
        "wrt is a tree of booleans with one at wrt.head.b, and the model has nothing there: it holds "
        "model.body, model.head.w. Give the tree the model's structure.",
    ),
    "too few booleans": (
        lambda: fb.split({"head": {"w": jnp.ones(1)}, "body": jnp.ones(2)}, {"head": True}),
        "wrt is a tree of booleans with none for model.body. Give one for every array, or for what is "
        "above it.",
    ),
    "no boolean is true": (
        lambda: fb.split([jnp.ones(1)], [False]),
        "wrt=[False] selects no parameter: the model holds model[0]. Choose a filter that matches one of "
        "these (Python numbers are constants: make them arrays to train them).",
    ),
    "a part of an array": (
        lambda: fb.split({"w": jnp.ones(2)}, {"w": jnp.array([True, False])}),
        "wrt.w holds 2 booleans. An array is trained as a whole or not at all: give one boolean, and "
        "multiply the gradients by a mask between beats.gradient and beats.update.",
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
        if self.what == "changes a dtype":
            self.stat = nnx.BatchStat(jnp.zeros((), jnp.int32))
        if self.what == "changes a shape":
            self.stat.set_value(jnp.zeros(3))


class Frozen(eqx.Module):
    w: jax.Array
    kind: str = eqx.field(static=True)
    act: object = jnp.tanh


TREES = {  # what a forward pass may do to a pytree, and how the text begins after "structure: "
    "a new key": (lambda m: m.update(seen=jnp.ones(1)), "model['seen'] appeared. "),
    "a new key below": (lambda m: m["body"].update(seen=1), "model['body']['seen'] appeared. "),
    "a key taken": (lambda m: m.pop("n"), "model['n'] is gone. "),
    "an item more": (lambda m: m["layers"].append(jnp.ones(1)), "model['layers'][1] appeared. "),
    "another container": (
        lambda m: m.update(layers=tuple(m["layers"])), "model['layers'] changed from a list to a tuple. "
    ),
    "None filled": (
        lambda m: m.update(empty=jnp.ones(2)), "model['empty'] changed from None to float32[2]. "
    ),
    "an array to None": (lambda m: m.update(n=None), "model['n'] changed from int32[] to None. "),
    "an array to a number": (lambda m: m.update(n=3), "model['n'] changed from int32[] to 3. "),
    "a constant": (lambda m: m.update(name="b"), "model['name'] changed from 'a' to 'b'. "),
    "a static field": (
        lambda m: m.update(net=Frozen(m["net"].w, "other")),
        "model['net'].kind changed from 'one' to 'other'. "
    ),
    "several": (
        lambda m: m.update(x=1, y=2) or m.pop("name"),
        "model['name'] is gone; model['x'] appeared; model['y'] appeared. ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TREES)
def test_a_structure_that_a_forward_pass_changes_is_an_error_that_names_the_key(case):
    change, text = TREES[case]
    model = {
        "w": jnp.ones(()), "n": jnp.array(0, jnp.int32), "body": {"b": jnp.ones(1)}, "layers": [jnp.ones(2)],
        "empty": None, "name": "a", "net": Frozen(jnp.ones(1), "one"),
    }  # fmt: skip

    def loss_fn(model, batch):
        loss = model["w"] * batch["x"]
        change(model)
        return loss

    beats = fb.four_beats(loss_fn, optax.sgd(0.1))
    with pytest.raises(ValueError) as caught:
        fb.compile(beats.train_step)(beats.init(model), {"x": np.ones(2, np.float32)})
    assert str(caught.value) == (
        f"the forward pass changed the model's structure: {text}A compiled step cannot do that. Give the "
        "model all that it will hold before beats.init, each as an array of the shape and dtype that it will "
        "have, and return as aux what is only looked at."
    )


WRITES = {
    "counts": "the forward pass changed the model's structure: model.n changed from 0 to 1. ",
    "sows": "the forward pass changed the model's structure: model.seen appeared. ",
    "changes a dtype": "the forward pass changed model.stat from float32[] to int32[]. ",
    "changes a shape": "the forward pass changed model.stat from float32[] to float32[3]. ",
}


@pytest.mark.parametrize("what", WRITES)
def test_what_a_step_cannot_keep_is_an_error_that_names_the_path(what):
    from fourbeat.models.splitting import read_back

    static, params, rest = fb.split(Writes(what))
    model = fb.merge(static, params, rest)
    assert read_back(static, model, params, rest) == ({}, rest)
    model()
    with pytest.raises(ValueError) as caught:
        read_back(static, model, params, rest)
    assert str(caught.value).startswith(WRITES[what])


def of_torch(make):
    return lambda: make(pytest.importorskip("torch"))


OF_TORCH = (
    "which JAX can neither trace nor differentiate. Pass an NNX module or another pytree of arrays; "
    "docs/from-pytorch.md carries the weights over."
)
OTHERS = {
    "torch": (
        of_torch(lambda torch: torch.nn.Linear(2, 1)),
        f"model is a PyTorch module (Linear), {OF_TORCH}",
    ),
    "torch in a dict": (
        of_torch(lambda torch: {"a": [torch.nn.Linear(2, 1)]}),
        f"model['a'][0] is a PyTorch module (Linear), {OF_TORCH}",
    ),
    "tensors": (
        of_torch(lambda torch: {"w": torch.nn.Parameter(torch.ones(2))}),
        f"model['w'] is a PyTorch tensor (Parameter), {OF_TORCH}",
    ),
    "Linen": (
        lambda: flax.linen.Dense(3),
        "model is a Flax Linen module (Dense), which holds no parameters. Pass what its init(key, x) gives "
        "as the model, and call module.apply(model, x) in the loss function.",
    ),
    "a class": (lambda: nnx.Linear, "model is the class Linear. Pass a model that is made of it."),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_another_library_calls_a_model_is_called_so(kind):
    make, text = OTHERS[kind]
    with pytest.raises(TypeError) as caught:
        fb.split(make())
    assert str(caught.value) == text


def test_none_is_no_model():
    with pytest.raises(TypeError) as error:
        fb.split(None)
    assert str(error.value) == (
        "model is None. Pass a model: perhaps the function that builds it returns nothing."
    )
